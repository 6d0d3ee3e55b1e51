"""The copies on which an audit works: models that cast, and models that are hard to copy."""

import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch
from audit_models import ROW, VECTOR, WHOLE, dense, inputs, net, sequence, units_of
from torch import nn
from torch.nn.functional import layer_norm
from torch.utils.checkpoint import checkpoint

from tangential import audit


class CastingNorm(nn.LayerNorm):
    """As in CLIP and Whisper."""

    def forward(self, x):
        return super().forward(x.float()).type(x.dtype)


class WideNorm(nn.LayerNorm):
    """As in Llama, where the weight is cast, too."""

    def forward(self, x):
        values = (x.to(torch.float32), self.normalized_shape, self.weight.float())
        return layer_norm(*values, self.bias.float(), self.eps).type_as(x)


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
    assert units_of(result) == {"inner.weight": WHOLE}
    assert result["inner.weight"].radial < 1e-12
    assert all(line.verified for line in result.lines)
    assert not any("float32" in note for note in result.notes)


def needs_float32(m, x):
    assert x.dtype == torch.float32, "this kernel takes float32"
    return m.norm(m.inner(x))


def test_a_model_without_float64_is_audited_in_float32():
    result = audit(net(needs_float32), inputs(), verify=True)
    assert units_of(result) == {"inner.weight": WHOLE}
    assert all(line.verified for line in result.lines)
    words = "fails in float64 (AssertionError: this kernel takes float32"
    assert [words in note for note in result.notes].count(True) == 1


def test_a_model_without_float64_and_float32_is_explained():
    def forward(m, x):
        x = x.bfloat16()
        assert x.dtype == torch.bfloat16, "x" * 1_000_000
        return m.norm(m.inner(x))

    with pytest.raises(RuntimeError, match="cast to the dtype of the weights") as raised:
        audit(net(forward).bfloat16(), inputs())
    assert len(str(raised.value)) < 1000


def test_bfloat16_weights_are_audited():
    model = sequence(dense(), nn.LayerNorm(6)).to(torch.bfloat16)
    result = audit(model, [torch.randn(VECTOR, dtype=torch.bfloat16) for _ in range(2)])
    assert units_of(result) == {"net.0.weight": WHOLE}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_a_hook_computes_are_audited():
    model = sequence(nn.utils.weight_norm(dense()), nn.ReLU())
    model(torch.randn(VECTOR))
    result = audit(model, inputs(2))
    assert units_of(result) == {"net.0.weight_v": ROW}


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
def test_objects_that_cannot_be_copied_are_shared(where, thing):
    thing, model = thing(), net()
    box = type("Box", (), {})()
    box.things = {"a": (thing,)}
    held = {"attribute": thing, "list": [[thing], 3], "object": box, "module": thing}[where]
    (model.norm if where == "module" else model).held = held
    result = audit(model, inputs())
    assert units_of(result) == {"inner.weight": WHOLE}
    assert (model.norm if where == "module" else model).held is held
    if hasattr(thing, "close"):
        thing.close()  # the file, and the generator


def test_a_module_that_refuses_to_be_copied():
    class Refuses(nn.Linear):
        def __deepcopy__(self, memo):
            raise ValueError("not this one")

    with pytest.raises(TypeError, match=r"copy.deepcopy failed: not this one"):
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
