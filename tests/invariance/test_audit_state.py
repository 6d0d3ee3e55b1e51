"""An audit changes nothing: neither the model nor a generator nor a default."""

import importlib
import random

import numpy as np
import pytest
import torch
from audit_models import IMAGE, ROW, VECTOR, WHOLE, inputs, net, units_of
from known_nets import built
from torch import nn
from torch.utils.checkpoint import checkpoint

import tangential
from tangential import audit
from tangential.invariance.probe import Probe


def test_a_probe_is_put_back_after_each_question():
    model, batches = built("frozen batch norm")
    probe = Probe(model, None, 0)
    before = probe.value(batches[0], {})
    with probe.replaced({"net.0.bias": torch.zeros(6)}), probe.batch_statistics(["net.1"]):
        assert probe.value(batches[0], {}) != before
    assert probe.value(batches[0], {}) == before


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.BatchNorm2d(6), nn.Linear(4, 2)
    )
    model[3].eval()
    model[0].bias.requires_grad_(False)
    grad = model[4].weight.grad = torch.ones(2, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    audit(model, inputs(2, IMAGE), verify=True)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model[4].weight.grad is grad
    assert grad.eq(1).all()
    assert all(p.grad is None for n, p in model.named_parameters() if n != "4.weight")
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["0.bias"]
    assert [module.training for module in model] == [True, True, True, False, True]
    assert model[1].eps == 1e-5
    assert {p.dtype for p in model.parameters()} == {torch.float32} == {torch.get_default_dtype()}
    torch.set_rng_state(generator)  # the batches above were drawn in between
    [torch.randn(IMAGE) for _ in range(2)]
    drawn_by_batches = torch.get_rng_state()
    torch.set_rng_state(generator)
    audit(model, (torch.randn(IMAGE) for _ in range(2)))
    assert torch.equal(torch.get_rng_state(), drawn_by_batches)


def test_a_state_that_a_forward_stores_is_put_back():
    def forward(m, x):
        m.count += 1
        m.last = [m.inner(x) + 0 * m.last[0]]
        return m.norm(m.last[0]) * m.count

    model = net(forward, count=0, last=[torch.zeros(7, 6)])
    model(torch.randn(VECTOR))
    last = model.last[0]
    result = audit(model, inputs(), verify=True)
    assert units_of(result) == {"inner.weight": WHOLE}
    assert all(line.verified for line in result.lines)
    assert model.count == 1
    assert model.last[0] is last


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        (
            lambda m, x: type(
                "Output", (), {"__init__": lambda o: setattr(o, "y", m.norm(m.inner(x)))}
            )(),
            "weight",
        ),
        (lambda m, x: m.norm(m.inner(x[x[:, 0] > 0])), "weight"),
        (lambda m, x: m.norm(m.inner(x)).sum() * 0, "dead"),
        (lambda m, x: m.norm(m.inner(x).detach()), "dead"),
        (
            lambda m, x: m.norm(checkpoint(m.inner, x.requires_grad_(), use_reentrant=True)),
            "weight",
        ),
        (
            lambda m, x: torch.autograd.grad(
                m.norm(m.inner(x.requires_grad_())).exp().sum(), x, create_graph=True
            )[0],
            "weight",
        ),
    ],
    ids=["output of a class", "data-dependent", "constant", "detached", "reentrant", "gradient"],
)
def test_unusual_forwards_are_audited(forward, kind):
    result = audit(net(forward), inputs(), verify=True)
    assert result["inner.weight"].kind == kind
    assert result["inner.weight"].verified is not False


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("compile_", [torch.jit.script, lambda m: torch.jit.trace(m, inputs()[0])])
def test_script_modules_are_audited_and_left_alone(compile_):
    model = compile_(nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    result = audit(model, inputs(), verify=True)
    assert units_of(result) == {"0.weight": ROW}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert all(param.grad is None for param in model.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_outside_is_changed(fails):
    def forward(m, x):
        m.norm.eval()
        noise = (
            random.random() + np.random.rand() + torch.rand(()) + torch.rand((), generator=m.own)
        )
        if fails and x.dtype == torch.float64:
            raise RuntimeError("too wide")
        return m.norm(m.inner(x) * noise)

    model = net(forward, norm=nn.BatchNorm1d, own=torch.Generator())
    proxies = nn.Parameter(torch.randn(6, 4))
    grad = proxies.grad = torch.ones(6, 4)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state(),
        model.own.get_state(),
    )
    result = audit(
        model, inputs_ := inputs(), loss=lambda m, x: (m(x) @ proxies).square().sum(), verify=True
    )
    del inputs_
    assert any("noise" in words for words in result.notes)
    assert all(line.verified for line in result.lines)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(model.own.get_state(), before[3])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert all(module.training for module in model.modules())
    assert torch.get_default_dtype() == torch.float32
    assert proxies.grad is grad
    assert grad.eq(1).all()


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_default_device_changes_nothing(device):
    """As inside `torch.set_default_device("cuda")`: what the audit makes is where the model is."""
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.LayerNorm(3), nn.Linear(3, 2))
    batches = [torch.randn(5, 4)]
    usual = audit(model, batches)
    with torch.device(device):
        assert audit(model, batches).lines == usual.lines


def test_the_package_has_the_function_after_every_import():
    importlib.import_module("tangential.invariance.audits")
    importlib.import_module("tangential_lab.cli.audit")
    assert tangential.audit is audit
    assert callable(audit)
