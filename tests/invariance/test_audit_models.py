"""The audit of models as people write them: they cast, keep what cannot be copied, need labels."""

import random
import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch
from test_audit import NETS, ROW, VECTOR, WHOLE, Model, built, found
from torch import nn
from torch.nn.functional import layer_norm
from torch.utils.checkpoint import checkpoint

from tangential import audit
from tangential.invariance import audits
from tangential.invariance.precision import FLOAT32


class CastingNorm(nn.LayerNorm):
    """As in CLIP and Whisper."""

    def forward(self, x):
        return super().forward(x.float()).type(x.dtype)


class WideNorm(nn.LayerNorm):
    """As in Llama, where the weight is cast, too."""

    def forward(self, x):
        values = (x.to(torch.float32), self.normalized_shape, self.weight.float())
        return layer_norm(*values, self.bias.float(), self.eps).type_as(x)


def net(forward=lambda m, x: m.norm(m.inner(x)), norm=nn.LayerNorm, bias=False, **more):
    """A weight that is scale-invariant as a whole, by default; `more` modules and attributes."""
    return Model(forward, inner=nn.Linear(8, 6, bias=bias), norm=norm(6), **more)


def inputs(count=3):
    return [torch.randn(VECTOR) for _ in range(count)]


def autocast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.norm(m.inner(x))


def written(m, x):
    out = torch.zeros(7, 6, dtype=torch.float32)
    return out.index_copy_(0, torch.arange(7), m.norm(m.inner(x)))


def accumulated(m, x):
    out = torch.zeros(7, 6, dtype=torch.float16)
    out += m.inner(x)
    return m.norm(out.float())


CASTS = {
    "CLIP": partial(net, norm=CastingNorm),
    "Llama": partial(net, norm=WideNorm),
    "float": lambda: net(lambda m, x: m.norm(m.inner(x).float())),
    "half": lambda: net(lambda m, x: m.norm(m.inner(x).half().float())),
    "half norm": lambda: net(
        lambda m, x: m.norm(m.inner(x).half()), lambda n: nn.LayerNorm(n).half()
    ),
    "bfloat16": lambda: net(lambda m, x: m.norm(m.inner(x.bfloat16()))).bfloat16(),
    "autocast": lambda: net(autocast),
    "constant": lambda: net(lambda m, x: m.norm(m.inner(x) @ torch.eye(6, dtype=torch.float32))),
    "attribute": lambda: net(lambda m, x: m.norm(m.inner(x) @ m.plain), plain=torch.eye(6)),
    "view": lambda: net(
        lambda m, x: m.norm(m.inner(x) * m.plain[0].view(6)), plain=torch.ones(2, 6)
    ),
    "NumPy": lambda: net(lambda m, x: m.norm(m.inner(x) * torch.from_numpy(np.ones(6, "f4")))),
    "written": lambda: net(written),
    "accumulated": lambda: net(accumulated),
    "spectrum": lambda: net(
        lambda m, x: m.norm(torch.fft.irfft(torch.fft.rfft(m.inner(x).float()), n=6))
    ),
    "vmap": lambda: net(lambda m, x: torch.vmap(lambda row: m.norm(m.inner(row)).float())(x)),
    "checkpoint": lambda: net(
        lambda m, x: m.norm(checkpoint(lambda x: m.inner(x.float()), x, use_reentrant=False))
    ),
}


@pytest.mark.parametrize("name", CASTS)
def test_casts_leave_the_proof_in_float64(name):
    result = audit(CASTS[name](), inputs(), verify=True)
    assert found(result) == {"inner.weight": WHOLE}
    assert result["inner.weight"].radial < 1e-12
    assert all(line.verified for line in result.lines)
    assert not any("float32" in words for words in result.notes)


def needs_float32(m, x):
    assert x.dtype == torch.float32, "this kernel takes float32"
    return m.norm(m.inner(x))


def test_what_has_no_float64_is_audited_in_float32_and_says_so():
    result = audit(net(needs_float32), inputs(), verify=True)
    assert found(result) == {"inner.weight": WHOLE}
    assert all(line.verified for line in result.lines)
    words = "fails in float64 (AssertionError: this kernel takes float32"
    assert [words in note for note in result.notes].count(True) == 1


@pytest.mark.parametrize("name", NETS)
def test_float32_finds_the_same(name, monkeypatch):
    monkeypatch.setattr(audits, "FLOAT64", FLOAT32)
    model, batches, invariant, dead = built(name)
    result = audit(model, batches, verify=True)
    assert found(result) == invariant
    assert result.names("dead") == dead
    assert [line.name for line in result.lines if not line.verified] == []


def test_what_has_neither_is_explained():
    def forward(m, x):
        x = x.bfloat16()
        assert x.dtype == torch.bfloat16, "x" * 1_000_000
        return m.norm(m.inner(x))

    with pytest.raises(RuntimeError, match="cast to the dtype of the weights") as raised:
        audit(net(forward).bfloat16(), inputs())
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("where", ["attribute", "list", "object", "module"])
@pytest.mark.parametrize(
    "thing",
    [
        threading.Lock,
        lambda: (x for x in "abc"),
        lambda: sys,
        lambda: open(__file__),  # noqa: SIM115
        lambda: torch.ones(3, requires_grad=True) * 2,
    ],
    ids=["lock", "generator", "module", "file", "tensor"],
)
def test_what_cannot_be_copied_is_shared(where, thing):
    thing, model = thing(), net()
    box = type("Box", (), {})()
    box.things = {"a": (thing,)}
    held = {"attribute": thing, "list": [[thing], 3], "object": box, "module": thing}[where]
    (model.norm if where == "module" else model).held = held
    result = audit(model, inputs())
    assert found(result) == {"inner.weight": WHOLE}
    assert (model.norm if where == "module" else model).held is held
    if hasattr(thing, "close"):
        thing.close()  # the file, and the generator


def test_a_state_that_a_forward_keeps():
    def forward(m, x):
        m.count += 1
        m.last = [m.inner(x) + 0 * m.last[0]]
        return m.norm(m.last[0]) * m.count

    model = net(forward, count=0, last=[torch.zeros(7, 6)])
    model(torch.randn(VECTOR))
    last = model.last[0]
    result = audit(model, inputs(), verify=True)
    assert found(result) == {"inner.weight": WHOLE}
    assert all(line.verified for line in result.lines)
    assert model.count == 1
    assert model.last[0] is last


def test_a_module_that_refuses_to_be_copied():
    class Refuses(nn.Linear):
        def __deepcopy__(self, memo):
            raise ValueError("not this one")

    with pytest.raises(TypeError, match=r"copy.deepcopy fails: not this one"):
        audit(Refuses(8, 6), inputs())


@pytest.mark.parametrize("holder", ["forward", "hook", "loss"])
def test_a_copy_that_uses_the_given_model_is_refused(holder):
    model, loss = net(), None
    if holder == "forward":
        inner = model.inner.forward
        model.inner.forward = lambda x: 2 * inner(x)
    elif holder == "hook":
        model.register_forward_hook(lambda module, args, y: y * model.norm.weight)
    else:
        loss = lambda given, x: (given(x) * model.norm.weight).sum()
    with pytest.raises(ValueError, match=r"the copy uses (inner|norm)\.weight of the model"):
        audit(model, inputs(), loss=loss)
    assert all(param.grad is None for param in model.parameters())


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
def test_other_forwards(forward, kind):
    result = audit(net(forward), inputs(), verify=True)
    assert result["inner.weight"].kind == kind
    assert result["inner.weight"].verified is not False


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("compile_", [torch.jit.script, lambda m: torch.jit.trace(m, inputs()[0])])
def test_jit(compile_):
    model = compile_(nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    result = audit(model, inputs(), verify=True)
    assert found(result) == {"0.weight": ROW}
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
