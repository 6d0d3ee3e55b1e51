"""What users of torch.optim take for granted: closures, hooks, groups, schedulers, states."""

import copy

import pytest
import torch
from table import every_backend, every_rule
from torch import nn
from trained_nets import equal, net, train, usual

from tangential import SGDP, AdamP

pytestmark = every_backend


@every_rule
@pytest.mark.parametrize("shape", [(), (1,)])
def test_tensor_lr_is_float_lr_and_stays_a_tensor(cls, shape, backend):
    model = net()
    other = copy.deepcopy(model)
    lr = torch.full(shape, 0.05, dtype=torch.float64)
    options = usual(cls) | backend | {"weight_decay": 0.1}
    with_tensor = cls(model.parameters(), **options | {"lr": lr})
    train(model, with_tensor, 4)
    train(other, cls(other.parameters(), **options), 4)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    assert with_tensor.param_groups[0]["lr"] is lr
    lr.fill_(0.0)
    before = copy.deepcopy(model)
    train(model, with_tensor, 1)
    assert equal(model, before)


@every_rule
def test_schedulers_turn_the_lr_and_the_momentum(cls, backend):
    model = net()
    optimizer = cls(model.parameters(), **backend, **usual(cls))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
    rates = []
    train(
        model,
        optimizer,
        5,
        after=lambda: (schedule.step(), rates.append(optimizer.param_groups[0]["lr"])),
    )
    assert max(rates) > 0.05 > rates[-1]
    other = cls(model.parameters(), **usual(cls))
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["initial_lr"] == optimizer.param_groups[0]["initial_lr"]


@every_rule
def test_closure_runs_with_gradients_and_its_loss_comes_back(cls, backend):
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = cls([w], lr=0.1, **backend)

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 4.0
    assert not torch.equal(w, torch.ones(2, 2))
    assert optimizer.step() is None


@every_rule
def test_hooks_run_around_the_step(cls, backend):
    w = nn.Parameter(torch.ones(2, 2))
    w.grad = torch.ones(2, 2)
    optimizer = cls([w], lr=0.1, **backend)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(w.detach().clone()))
    optimizer.register_step_post_hook(lambda *_: seen.append(w.detach().clone()))
    optimizer.step()
    assert torch.equal(seen[0], torch.ones(2, 2))
    assert torch.equal(seen[1], w)
    assert not torch.equal(seen[0], seen[1])


@every_rule
def test_groups_have_their_own_options(cls, backend):
    a, b, c = (nn.Parameter(torch.tensor([[3.0, 4.0]])) for _ in range(3))
    optimizer = cls(
        [{"params": [a]}, {"params": [b], "lr": 0.2, "projection": "off"}], lr=0.1, **backend
    )
    optimizer.add_param_group({"params": c, "projection": "row", "wd_ratio": "matched"})
    assert [g["projection"] for g in optimizer.param_groups] == ["auto", "off", "row"]
    for p in (a, b, c):
        p.grad = torch.tensor([[4.0, -3.0]])
    optimizer.step()
    assert torch.equal(a, c)
    step = optimizer.state[b]["exp_avg"] if cls is AdamP else b.grad
    expected = torch.tensor([[3.0, 4.0]]) - 0.2 * (step.sign() if cls is AdamP else step)
    torch.testing.assert_close(b.detach(), expected)


@every_rule
def test_named_parameters_and_generators(cls, backend):
    model = net()
    optimizer = cls(model.named_parameters(), **backend, **usual(cls))
    assert optimizer.param_groups[0]["param_names"][0] == "0.weight"
    train(model, optimizer, 1)
    other = cls((p for p in model.parameters()), **usual(cls))
    other.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="row_axis is 9"):
        cls(model.named_parameters(), lr=0.1, row_axis=9)


@every_rule
def test_zero_grad(cls, backend):
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = cls([w], lr=0.1, **backend)
    w.grad = torch.ones(2, 2)
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(w.grad, torch.zeros(2, 2))
    optimizer.zero_grad()
    assert w.grad is None
    optimizer.step()
    assert torch.equal(w, torch.ones(2, 2))
    assert not optimizer.state_dict()["state"]


def test_a_weight_counts_its_own_steps(backend):
    early, late = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    late.requires_grad_(False)
    optimizer = AdamP([early, late], lr=0.1, **backend)
    for t in range(6):
        early.grad = torch.full((2, 2), 0.5)
        late.grad = torch.full((2, 2), 0.5) if t in (3, 5) else None
        before = late.detach().clone()
        optimizer.step()
        if t in (3, 5):  # a first step of Adam is lr * sign(gradient), and so is this second one
            torch.testing.assert_close(late.detach(), before - 0.1, rtol=1e-6, atol=0)
        else:
            assert torch.equal(late, before)
    assert optimizer.state[early]["step"].item() == 6
    assert optimizer.state[late]["step"].item() == 2


def test_without_momentum_a_bad_gradient_is_forgotten(backend):
    """As in torch's SGD: the infinite weight stays infinite and does not turn to NaN."""
    ours, theirs = (nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    optimizers = [SGDP([ours], lr=0.1, **backend), torch.optim.SGD([theirs], lr=0.1)]
    for g in (torch.inf, 1.0):
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = torch.tensor([[g, 1.0, 2.0], [1.0, 1.0, 1.0]])
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    assert ours.isinf().sum() == 1


@every_rule
def test_autograd_catches_a_step_between_forward_and_backward(cls, backend):
    w = nn.Parameter(torch.randn(3, 3))
    loss = (w**2).sum()
    w.grad = torch.ones(3, 3)
    cls([w], lr=0.1, **backend).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@every_rule
def test_maximize_leaves_the_gradient_alone(cls, backend):
    w = nn.Parameter(torch.randn(3, 3))
    w.grad = torch.randn(3, 3)
    before = w.grad.clone()
    cls([w], lr=0.1, maximize=True, **backend).step()
    assert torch.equal(w.grad, before)


@every_rule
def test_grad_scaler_skips_a_step_with_infinities(cls, backend):
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = cls([w], lr=0.1, **backend)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale((w * torch.inf).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(w, torch.ones(2, 2))
    optimizer.zero_grad()
    scaler.scale((w * w).sum()).backward()
    scaler.step(optimizer)
    assert not torch.equal(w, torch.ones(2, 2))


@every_rule
def test_state_keys_and_layouts_are_torchs(cls, backend):
    w = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    w.grad = torch.randn_like(w)
    optimizer = cls([w], lr=0.1, **backend)
    optimizer.step()
    reference = torch.optim.AdamW([w]) if cls is AdamP else torch.optim.SGD([w], 0.1, 0.9)
    reference.step()
    ours, theirs = optimizer.state[w], reference.state[w]
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert (ours[name].dtype, ours[name].shape, ours[name].stride()) == (
            value.dtype,
            value.shape,
            value.stride(),
        )
