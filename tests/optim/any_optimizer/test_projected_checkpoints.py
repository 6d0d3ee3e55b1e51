"""Runs that resume from a state_dict or a copy equal the uninterrupted run, bit for bit."""

import copy
import io
import pickle

import pytest
import torch
from optimizers import equal, net, train
from torch import nn

from tangential import project
from tangential.optim import amendment_of
from tangential.radial import bounded_norm

OPTIONS = {
    "remove": {},
    "latch": {"latch": 3},
    "rotational": {"radial": "rotational", "projection": "row"},
    "bounded": {"radial": bounded_norm(rate=0.1), "projection": "row"},
    "fixed": {"radial": "fixed_norm", "latch": 2},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def projected(model, options, lr=0.05):
    return project(torch.optim.Adam(model.parameters(), lr=lr), weight_decay=0.1, **options)


@every_dtype
@every_option
def test_a_run_resumed_through_torch_load_is_the_uninterrupted_one(options, dtype):
    whole = net().to(dtype)
    broken = copy.deepcopy(whole)
    optimizer = projected(whole, options)
    train(whole, optimizer, 2)
    train(whole, optimizer, 4, seed=1)

    first = projected(broken, options)
    train(broken, first, 2)
    file = io.BytesIO()
    torch.save({"model": broken.state_dict(), "optimizer": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = net().to(dtype)
    resumed.load_state_dict(saved["model"])
    second = projected(resumed, options, lr=1.0)
    second.load_state_dict(saved["optimizer"])
    train(resumed, second, 4, seed=1)
    assert equal(whole, resumed)
    states = [x.state_dict()["state"] for x in (optimizer, second)]
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        assert one.keys() == other.keys()
        assert all(x.equal(other[name]) for name, x in one.items())
        assert {x.dtype for name, x in one.items() if name != "step"} == {torch.float32}


@every_dtype
@every_option
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_are_independent_and_stay_projected(clone, options, dtype):
    model = net().to(dtype)
    optimizer = projected(model, options)
    train(model, optimizer, 2)
    twin_model, twin = clone(clone((model, optimizer)))
    train(model, optimizer, 2, seed=1)
    assert not equal(model, twin_model)
    train(twin_model, twin, 2, seed=1)
    assert equal(model, twin_model)
    assert amendment_of(twin, twin.param_groups[0]) == amendment_of(
        optimizer, optimizer.param_groups[0]
    )


def test_copies_drop_the_hooks_of_users_as_in_torch():
    model = net()
    optimizer, calls = projected(model, {}), []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    twin = copy.deepcopy(optimizer)
    train(model, optimizer, 1)
    twin.step()
    twin.register_step_post_hook(lambda *_: calls.append(2))
    twin.step()
    assert calls == [1, 2]


def test_a_checkpoint_of_the_plain_optimizer_keeps_the_options_of_now():
    model = net()
    plain = torch.optim.Adam(model.parameters(), lr=0.05)
    train(model, plain, 2)
    optimizer = projected(model, {"projection": "row"}, lr=1.0)
    optimizer.load_state_dict(plain.state_dict())
    [group] = optimizer.param_groups
    assert (group["lr"], group["projection"], group["project_weight_decay"]) == (0.05, "row", 0.1)
    assert int(next(iter(optimizer.state.values()))["step"]) == 2
    train(model, optimizer, 1)


def test_the_plain_optimizer_loads_a_checkpoint_of_the_projected_one():
    model = net()
    optimizer = projected(model, {"radial": "rotational", "projection": "row"})
    train(model, optimizer, 2)
    plain = torch.optim.Adam(model.parameters())
    plain.load_state_dict(optimizer.state_dict())
    train(model, plain, 2)


def test_a_bfloat16_run_continues_with_moments_in_float32():
    """The plain optimizer has them in bfloat16."""
    model = net().bfloat16()
    plain = torch.optim.Adam(model.parameters(), lr=0.05)
    train(model, plain, 2)
    optimizer = projected(model, {})
    optimizer.load_state_dict(plain.state_dict())
    train(model, optimizer, 2)
    dtypes = {s["exp_avg"].dtype for s in optimizer.state.values()}
    assert dtypes == {torch.float32}


def test_a_checkpoint_of_other_groups_is_refused_as_in_torch():
    optimizer = projected(net(), {})
    other = projected(nn.Linear(3, 2), {}).state_dict()
    with pytest.raises(ValueError, match="size"):
        optimizer.load_state_dict(other)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({**other, "param_groups": []})
