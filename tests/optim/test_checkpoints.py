"""Runs that began with another optimizer go on where they stopped."""

import io

import adamp
import pytest
import timm.optim
import torch
from table import every_backend, every_rule
from torch import nn

from tangential import SGDP, AdamP

pytestmark = every_backend
SHAPES = [(8, 3, 3, 3), (6, 5), (7,)]


def two_copies():
    """Float64 weights of two models: rows, matrix, vector."""
    return [[nn.Parameter(torch.randn(s).double()) for s in SHAPES] for _ in range(2)]


def run(optimizers, weights, steps):
    """The same gradients, open and shut gates in turn, for every optimizer."""
    for t in range(steps):
        for copies in zip(*weights, strict=True):
            w = copies[0].detach()
            g = torch.randn_like(w)
            if t % 2 and w.dim() > 1:
                axes = tuple(range(1, w.dim()))
                g -= (g * w).sum(axes, keepdim=True) / (w * w).sum(axes, keepdim=True) * w
            for p in copies:
                p.grad = g.clone()
        for optimizer in optimizers:
            optimizer.step()


def saved(optimizer):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def take_over(theirs, ours, steps=6):
    """Train `theirs`, load it into `ours(params)`, train both on; they must not part."""
    first, second = two_copies()
    old = theirs(first)
    run([old], [first], steps)
    with torch.no_grad():
        for p, q in zip(first, second, strict=True):
            q.copy_(p)
    new = ours(second)
    new.load_state_dict(saved(old))
    run([old, new], [first, second], steps)
    for p, q in zip(first, second, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-14)
    return new


ADAMP = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "wd_ratio": 0.3, "delta": 0.2}
SGDP_ = {"lr": 0.01, "weight_decay": 0.01, "momentum": 0.9, "dampening": 0.1}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("package", [adamp, timm.optim], ids=["adamp", "timm"])
def test_adamp_continues_from_the_copies(package, nesterov, backend):
    new = take_over(
        lambda p: package.AdamP(p, nesterov=nesterov, **ADAMP),
        lambda p: AdamP(p, **backend),
    )
    state = new.state[new.param_groups[0]["params"][0]]
    assert state["step"].dtype == torch.float32
    assert state["step"].item() == 12
    assert {k: new.param_groups[0][k] for k in ADAMP} == ADAMP


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("package", [adamp, timm.optim], ids=["adamp", "timm"])
def test_sgdp_continues_from_the_copies(package, nesterov, backend):
    published = package is adamp  # projects the momentum buffer itself
    new = take_over(
        lambda p: package.SGDP(p, nesterov=nesterov, **SGDP_),
        lambda p: SGDP(p, lr=1, **backend, project_buffer=published),
    )
    assert "momentum" not in new.state[new.param_groups[0]["params"][0]]
    assert new.param_groups[0]["project_buffer"] is published


def test_caution_continues_from_timm(backend):
    for theirs, ours, options in [
        (timm.optim.AdamP, AdamP, ADAMP),
        (timm.optim.SGDP, SGDP, SGDP_),
    ]:
        take_over(
            lambda p, c=theirs, o=options: c(p, caution=True, **o),
            lambda p, c=ours: c(p, lr=1, **backend),
        )


@pytest.mark.parametrize("name", ["AdamW", "Adam"])
def test_adamp_takes_over_from_torch(name, backend):
    """With projection off and no decay, AdamP is Adam: it must continue Adam's own path."""
    take_over(
        lambda p: getattr(torch.optim, name)(p, lr=0.01, weight_decay=0),
        lambda p: AdamP(p, **backend, projection="off"),
    )


def test_adamw_takes_over_with_its_decay(backend):
    new = take_over(
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda p: AdamP(p, **backend, projection="off", row_groups=1, wd_ratio="matched"),
    )
    group = new.param_groups[0]
    assert (group["weight_decay"], group["wd_ratio"], group["projection"]) == (
        0.1,
        "matched",
        "off",
    )
    assert not {"amsgrad", "differentiable"} & group.keys()
    assert not group["capturable"]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgdp_takes_over_from_torch(nesterov, backend):
    take_over(
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=nesterov),
        lambda p: SGDP(p, lr=1, **backend, projection="off"),
    )


def test_sgd_without_momentum_has_no_state_to_take_over(backend):
    take_over(
        lambda p: torch.optim.SGD(p, lr=0.01),
        lambda p: SGDP(p, lr=1, **backend, projection="off"),
    )


def test_amsgrad_is_dropped_with_a_warning(backend):
    (w,) = weights = [nn.Parameter(torch.ones(2, 2))]
    w.grad = torch.ones(2, 2)
    old = torch.optim.AdamW(weights, amsgrad=True)
    old.step()
    new = AdamP(weights, **backend)
    with pytest.warns(UserWarning, match="max_exp_avg_sq is dropped"):
        new.load_state_dict(old.state_dict())
    assert new.state[w].keys() == {"step", "exp_avg", "exp_avg_sq"}


class TestNothingChangesWhenLoadingFails:
    def optimizer(self, cls, backend):
        w = nn.Parameter(torch.randn(4, 3))
        w.grad = torch.randn(4, 3)
        optimizer = cls([w], lr=0.1, **backend)
        optimizer.step()
        return optimizer

    def refuse(self, optimizer, state_dict, match):
        before = saved(optimizer)
        with pytest.raises(ValueError, match=match):
            optimizer.load_state_dict(state_dict)
        after = saved(optimizer)
        assert after["param_groups"] == before["param_groups"]
        for name, value in before["state"][0].items():
            assert torch.equal(after["state"][0][name], value)

    @every_rule
    def test_buffer_of_another_shape(self, cls, backend):
        optimizer = self.optimizer(cls, backend)
        state_dict = saved(optimizer)
        name = optimizer.buffers[0]
        state_dict["state"][0][name] = torch.zeros(3, 4)
        self.refuse(optimizer, state_dict, rf"{name} of weight 0 has shape \(3, 4\).*\(4, 3\)")

    def test_state_of_the_wrong_family(self, backend):
        adamp_, sgdp = self.optimizer(AdamP, backend), self.optimizer(SGDP, backend)
        self.refuse(adamp_, saved(sgdp), r"\['momentum_buffer'\], but AdamP needs")
        self.refuse(sgdp, saved(adamp_), "but SGDP needs")

    def test_missing_step_count(self, backend):
        optimizer = self.optimizer(AdamP, backend)
        state_dict = saved(optimizer)
        del state_dict["state"][0]["step"]
        self.refuse(optimizer, state_dict, "weight 0 has")

    @every_rule
    def test_option_out_of_range(self, cls, backend):
        optimizer = self.optimizer(cls, backend)
        state_dict = saved(optimizer)
        state_dict["param_groups"][0]["lr"] = -1.0
        self.refuse(optimizer, state_dict, "lr must be .*, got -1.0")

    @every_rule
    def test_other_weights(self, cls, backend):
        optimizer = self.optimizer(cls, backend)
        state_dict = saved(optimizer)
        state_dict["param_groups"][0]["params"] = [0, 1]
        self.refuse(optimizer, state_dict, "doesn't match the size")
