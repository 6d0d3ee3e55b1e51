"""Runs that resume from a state_dict or a copy equal the uninterrupted run."""

import copy
import io
import pickle

import pytest
import torch
from table import every_backend, every_rule
from torch import nn
from trained_nets import equal, net, train, usual

pytestmark = every_backend


@every_rule
def test_a_run_resumed_through_torch_load_is_the_uninterrupted_one(cls, backend):
    whole = net()
    broken = copy.deepcopy(whole)
    optimizer = cls(whole.parameters(), **backend, caution=True, **usual(cls))
    train(whole, optimizer, 3)
    train(whole, optimizer, 3, seed=1)

    first = cls(broken.parameters(), **backend, caution=True, **usual(cls))
    train(broken, first, 3)
    file = io.BytesIO()
    torch.save({"model": broken.state_dict(), "optimizer": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = net()
    resumed.load_state_dict(saved["model"])
    second = cls(resumed.parameters(), lr=1.0, **backend)
    second.load_state_dict(saved["optimizer"])
    train(resumed, second, 3, seed=1)
    assert equal(whole, resumed)
    assert second.param_groups[0]["caution"] is True
    assert second.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


@every_rule
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_are_independent_and_train_on(cls, clone, backend):
    model = net()
    optimizer = cls(model.parameters(), **backend, **usual(cls))
    train(model, optimizer, 2)
    twin_model, twin = clone((model, optimizer))
    train(model, optimizer, 2, seed=1)
    assert not equal(model, twin_model)
    train(twin_model, twin, 2, seed=1)
    assert equal(model, twin_model)


@every_rule
def test_loaded_buffers_are_copies(cls, backend):
    model, other = net(), net()
    optimizer = cls(model.parameters(), **backend, **usual(cls))
    train(model, optimizer, 2)
    twin = cls(other.parameters(), **backend, **usual(cls))
    twin.load_state_dict(optimizer.state_dict())
    before = copy.deepcopy(optimizer.state_dict()["state"])
    train(other, twin, 1)
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(before[index][name], value) for name, value in state.items())


@every_rule
def test_user_hooks_may_rewrite_a_state_dict_before_it_is_adopted(cls, backend):
    w = nn.Parameter(torch.ones(2, 2))
    w.grad = torch.ones(2, 2)
    optimizer = cls([w], lr=0.1, **backend)
    optimizer.step()
    wrapped = {"wrapped": optimizer.state_dict()}
    optimizer.register_load_state_dict_pre_hook(lambda _, state_dict: state_dict["wrapped"])
    optimizer.load_state_dict(wrapped)
    optimizer.load_state_dict(wrapped)
