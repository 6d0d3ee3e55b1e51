"""Tensors that a step refuses: freed, read-only, of another kind, shape or place."""

import copy

import pytest
import torch
from table import every_backend, every_rule, stepped, usual
from torch import nn

from tangential import AdamP


def refused(optimizer, param, error, match):
    """A step raises, and neither the weight nor its state has changed."""
    state = optimizer.state[param]
    before = {name: copy.deepcopy(x) for name, x in state.items()}
    whole = param.untyped_storage().nbytes() == param.nbytes
    weight = param.detach().clone() if whole else None
    with pytest.raises(error, match=match):
        optimizer.step()
    assert state.keys() == before.keys()
    if weight is not None:
        assert torch.equal(param, weight)
    assert all(torch.equal(state[name], x) for name, x in before.items() if x.dim() == 0)


@every_backend
@every_rule
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("left", [0, 24])
@pytest.mark.parametrize("part", ["data", "gradient", "buffer"])
def test_freed_memory_is_an_error_until_it_is_restored(cls, backend, steps, left, part):
    param, optimizer = stepped(cls, backend, steps=steps)
    twin = copy.deepcopy(param)
    buffer = optimizer.buffers[0]
    if part == "buffer" and not steps:
        pytest.skip("there is no buffer before the first step")
    x = {"data": param.data, "gradient": param.grad}.get(part)
    x = optimizer.state[param][buffer] if x is None else x
    values, size = x.clone(), x.untyped_storage().nbytes()
    x.untyped_storage().resize_(left)
    name = buffer if part == "buffer" else part
    refused(optimizer, param, RuntimeError, rf"{name} of .*\(8, 4\) is not in memory: .* {left} b")
    x.untyped_storage().resize_(size)
    x.copy_(values)
    optimizer.step()
    assert torch.equal(param == twin, torch.zeros(8, 4, dtype=torch.bool))


@every_backend
def test_a_view_into_freed_memory_is_an_error(backend):
    """As FSDP has them, in one flat buffer: their addresses are not null when it is freed."""
    flat = torch.randn(4096)
    params = [nn.Parameter(flat[i : i + 64].view(8, 8)) for i in (0, 1024, 2048)]
    optimizer = AdamP(params, **backend)
    for _ in range(2):
        for p in params:
            p.grad = torch.randn(8, 8)
        optimizer.step()
    flat.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"data of .* is not in memory"):
        optimizer.step()


@every_backend
@every_rule
def test_memory_that_returns_at_its_old_address_is_checked_again(cls, backend):
    """The allocator often gives a block back at its old address: that alone proves nothing."""
    param, optimizer = stepped(cls, backend, shape=(256, 64), steps=2)
    state = optimizer.state[param]
    for x in (param.data, *(state[name] for name in optimizer.buffers)):
        size = x.untyped_storage().nbytes()
        for _ in range(5):
            x.untyped_storage().resize_(0)
            x.untyped_storage().resize_(size - 128)
            with pytest.raises(RuntimeError, match="is not in memory"):
                optimizer.step()
        x.untyped_storage().resize_(size)
        x.zero_()
        optimizer.step()


@every_backend
@every_rule
def test_freed_memory_of_a_weight_with_holes_is_an_error(cls, backend):
    """Its storage may have as many bytes as its elements, and yet end before the last one."""
    param = nn.Parameter(torch.randn(64, 64)[:, ::2])
    optimizer = cls([param], **usual(cls), **backend)
    param.grad = torch.randn(64, 32)
    param.untyped_storage().resize_(param.nbytes)
    with pytest.raises(RuntimeError, match=r"data of .* is not in memory"):
        optimizer.step()


@every_backend
@every_rule
@pytest.mark.parametrize(
    ("weight", "problem"),
    [
        (torch.randn(3, 1).expand(3, 4), "is expanded"),
        (torch.randn(3, 4, dtype=torch.complex64).conj(), "is a lazy negation or conjugate"),
        (torch.randn(3, 4, dtype=torch.complex64).conj().imag, "is a lazy negation or conjugate"),
        (
            torch.randn(3, 4).to(torch.float8_e4m3fn),
            "is torch.float8_e4m3fn, expected a floating-point",
        ),
    ],
    ids=["expanded", "conjugate", "negative", "float8"],
)
def test_weights_that_cannot_be_written_to_are_refused(cls, backend, weight, problem):
    first = nn.Parameter(torch.randn(3, 4))
    param = nn.Parameter(torch.zeros(weight.shape, dtype=weight.dtype))
    optimizer = cls([{"params": [first]}, {"params": [param]}], **usual(cls), **backend)
    param.data = weight.detach()
    first.grad, param.grad = torch.ones_like(first), torch.zeros_like(weight).resolve_neg()
    before = first.detach().clone()
    with pytest.raises(ValueError, match=f"data of a weight .* {problem}"):
        optimizer.step()
    assert torch.equal(first, before)


@every_backend
@every_rule
def test_a_weight_that_becomes_a_lazy_negation_is_refused(cls, backend):
    param, optimizer = stepped(cls, backend, steps=2)
    param.data = torch._neg_view(-param.data)
    with pytest.raises(ValueError, match=r"data of .* is a lazy negation"):
        optimizer.step()


@every_backend
@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_real_and_complex_do_not_mix(cls, backend, dtype):
    other = torch.float32 if dtype.is_complex else torch.complex64
    param, optimizer = stepped(cls, backend, shape=(4, 5), dtype=dtype)
    name = optimizer.buffers[-1]
    mixed = copy.deepcopy(optimizer.state_dict())
    mixed["state"][0][name] = torch.zeros(4, 5, dtype=other)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=f"{name} of weight 0 is {other} and the weight {dtype}"):
        optimizer.load_state_dict(mixed)
    assert torch.equal(optimizer.state[param][name], before["state"][0][name])
    optimizer.state[param][name] = torch.zeros(4, 5, dtype=other)
    refused(optimizer, param, ValueError, f"{name} of .* is {other} and the weight {dtype}")


@every_backend
@every_rule
@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (torch.zeros(4, 8), r"has shape \(4, 8\), expected the weight's \(8, 4\)"),
        (torch.zeros(8, 4).to_sparse(), "is torch.sparse_coo, expected a dense tensor"),
        (torch.zeros(8, 4, dtype=torch.int32), "is torch.int32, expected a floating-point"),
        (0.0, "is 0.0, expected a tensor"),
        (None, "is None, expected a tensor"),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(cls, backend, x, problem):
    param, optimizer = stepped(cls, backend)
    name = optimizer.buffers[0]
    good = optimizer.state[param][name]
    optimizer.state[param][name] = x
    with pytest.raises(ValueError, match=f"{name} of a weight of shape .* {problem}"):
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.state[param][name] = good
    if x is not None:  # torch.optim writes None for what it has not made yet
        with pytest.raises(ValueError, match=f"{name} of weight 0 {problem}"):
            optimizer.load_state_dict(saved)
    optimizer.step()


@every_backend
@pytest.mark.parametrize(
    "step",
    [
        *(
            "one",
            None,
            torch.ones(2),
            -1,
            float("nan"),
            torch.tensor(-1.0),
            torch.tensor(torch.nan),
        ),
        *(torch.tensor(torch.inf), torch.ones((), device="meta")),
    ],
)
def test_an_invalid_count_of_steps_is_refused(backend, step):
    param, optimizer = stepped(AdamP, backend)
    optimizer.state[param]["step"] = step
    with pytest.raises(ValueError, match=r"step of a weight of shape \(8, 4\) is"):
        optimizer.step()


@every_backend
@every_rule
def test_a_gradient_of_another_shape_is_refused(cls, backend):
    param, optimizer = stepped(cls, backend)
    param.data = torch.randn(6, 4)
    refused(optimizer, param, ValueError, r"gradient of .*\(6, 4\) has shape \(8, 4\)")


@every_backend
@every_rule
def test_a_step_in_a_cuda_graph_is_refused(cls, backend, monkeypatch):
    """Its count of steps would stand still; SGD has none, but Triton needs a step before."""
    from torch._subclasses import FakeTensorMode

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        param = nn.Parameter(torch.empty(4, 3, device="cuda"))
        param.grad = torch.empty(4, 3, device="cuda")
        optimizer = cls([param], **usual(cls), **backend)
        if cls is AdamP or backend.get("fused"):
            words = "only after a step" if backend.get("fused") else "that is being captured"
            with pytest.raises(RuntimeError, match=f"CUDA graph {words}"):
                optimizer.step()
        else:
            optimizer.step()
