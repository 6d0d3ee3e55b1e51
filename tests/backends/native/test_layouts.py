"""Which weights the kernel takes, and changes between steps, which it must see."""

import pytest
import torch
from table import every_rule, leaf, left_by_kernel, needs_kernel, usual

from tangential import AdamP
from tangential.backends.native import compiled

pytestmark = needs_kernel
TAKEN = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "one row": lambda x: x[:1].transpose(1, 3).contiguous().transpose(1, 3),
    "complex": lambda x: torch.complex(x, -x),
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "one by one": lambda x: x[:, :, :1, :1].contiguous(memory_format=torch.channels_last),
}
LEFT = {
    "strided": lambda x: x[:, ::2],
    "rows inside": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "a hole after each row": lambda x: x[..., :1],
}


@pytest.mark.parametrize("layout", TAKEN | LEFT)
@every_rule
def test_the_kernel_takes_dense_weights_and_foreach_the_others(cls, layout):
    x = torch.randn(4, 6, 2, 2)
    p, q = (leaf((TAKEN | LEFT)[layout](x.clone())) for _ in range(2))
    p.grad = torch.randn_like(p)
    q.grad = p.grad.clone()
    address, strides = p.data_ptr(), p.stride()
    ours, plain = cls([p], fused=True, **usual(cls)), cls([q], foreach=True, **usual(cls))
    ours.step()
    plain.step()
    assert left_by_kernel(ours) == [[p.shape] if layout in LEFT else []]
    assert (p.data_ptr(), p.stride()) == (address, strides)
    torch.testing.assert_close(p, q)


@every_rule
def test_a_gradient_with_other_strides_is_left_to_foreach(cls):
    p, q = (leaf(torch.ones(4, 6, 2, 2)) for _ in range(2))
    q.grad = torch.randn(4, 6, 2, 2)
    p.grad = q.grad.to(memory_format=torch.channels_last)
    ours = cls([p], fused=True, **usual(cls))
    ours.step()
    cls([q], fused=True, **usual(cls)).step()
    assert left_by_kernel(ours) == [[p.shape]]
    torch.testing.assert_close(p, q)


def replace_states(p, state):
    for name in state:
        state[name] = state[name].clone()


def move_states(p, state):
    for value in state.values():
        value.data = value.data.clone()


def relay(p, state):
    p.data = p.data.to(memory_format=torch.channels_last)


def relay_gradient(p, state):
    p.grad = p.grad.to(memory_format=torch.channels_last)


def move(p, state):
    p.data = p.data.clone()


def leave_out(p, state):
    p.grad = None


def turn(p, state):
    """The same memory under another shape, as the gradient, too."""
    for x in (p, p.grad, *state.values()):
        if x.ndim:
            x.data = x.data.transpose(0, 1)


@pytest.fixture(params=[True, False], ids=["dlpack", "attributes"])
def exchange(request, monkeypatch):
    """torch tells where tensors lie by a function in C, or, before 2.10, by their attributes."""
    if not request.param:
        monkeypatch.setattr(compiled, "EXCHANGE", None)
    elif compiled.EXCHANGE is None:
        pytest.skip("this torch has no C exchange API")


CHANGES = [replace_states, move_states, relay, relay_gradient, move, leave_out, turn]


@pytest.mark.usefixtures("exchange")
@every_rule
def test_changes_between_steps_are_seen(cls):
    """Layouts, gradients that come and go, states that are replaced: never a stale address."""
    x = [torch.randn(8, 6, 3, 3), torch.randn(5)]
    pairs = [[leaf(w.clone()) for w in x] for _ in range(2)]
    optimizers = [
        cls(params, **kind, **usual(cls))
        for params, kind in zip(pairs, [{"fused": True}, {"foreach": True}], strict=True)
    ]
    for change in (c for each in CHANGES for c in (None, each, None)):
        grads = [torch.randn_like(w) for w in pairs[0]]
        for params, optimizer in zip(pairs, optimizers, strict=True):
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            if change:
                change(params[0], optimizer.state[params[0]])
            optimizer.step()
        for p, q in zip(*pairs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def widen_one_state(p, state, names):
    state[names[-1]] = state[names[-1]].float()


def negative(p, state, names):
    p.grad = torch.complex(-p.grad, -p.grad).conj().imag  # p.grad, by a bit


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("change", [widen_one_state, negative])
@every_rule
def test_another_dtype_or_a_negative_view_is_seen(cls, change):
    """Another dtype, a negative view: left to torch, which knows what they mean."""
    dtype = torch.bfloat16 if change is widen_one_state else torch.float32
    p, q = (leaf(torch.ones(4, 1, dtype=dtype)) for _ in range(2))
    ours, plain = cls([p], fused=True, **usual(cls)), cls([q], foreach=True, **usual(cls))
    for t in range(3):
        g = torch.randn(4, 1, dtype=dtype)
        for x, optimizer in ((p, ours), (q, plain)):
            x.grad = g.clone()
            if t == 1:
                change(x, optimizer.state[x], optimizer.buffers)
            optimizer.step()
        torch.testing.assert_close(p, q)


@pytest.mark.usefixtures("exchange")
@every_rule
def test_a_conjugate_view_is_refused_by_name(cls):
    p = leaf(torch.randn(4, 1, dtype=torch.complex64))
    p.grad = torch.randn_like(p)
    optimizer = cls([p], fused=True, **usual(cls))
    optimizer.step()
    p.data = p.data.conj()
    before = p.detach().clone()
    with pytest.raises(ValueError, match="lazy negation or conjugate"):
        optimizer.step()
    assert torch.equal(p, before)


@every_rule
def test_cleared_states_of_weights_that_the_kernel_leaves_are_made_again(cls):
    p, q = (leaf(torch.ones(4, 6)[:, ::2]) for _ in range(2))
    ours, plain = cls([p], fused=True, **usual(cls)), cls([q], foreach=True, **usual(cls))
    for _ in range(2):
        p.grad = torch.randn(4, 3)
        q.grad = p.grad.clone()
        for optimizer in (ours, plain):
            optimizer.step()
            optimizer.state.clear()
        torch.testing.assert_close(p, q)
    assert left_by_kernel(ours) == [[p.shape]]


def test_states_in_another_order_than_the_weights():
    """Two groups, and a first step that some weights had no gradient in."""
    params, twins = ([leaf(torch.ones(3, n + 2)) for n in range(6)] for _ in range(2))
    groups = [[{"params": x[:3]}, {"params": x[3:]}] for x in (params, twins)]
    ours, plain = AdamP(groups[0], fused=True), AdamP(groups[1], foreach=True)
    for t in range(4):
        for i, (p, q) in enumerate(zip(params, twins, strict=True)):
            p.grad = torch.randn_like(p) if t or i % 2 else None
            q.grad = None if p.grad is None else p.grad.clone()
        ours.step()
        plain.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q)
    assert left_by_kernel(ours) == [[], []]


@every_rule
def test_writes_move_the_version_counters(cls):
    p = leaf(torch.randn(4, 3))
    p.grad = torch.randn(4, 3)
    optimizer = cls([p], fused=True, **usual(cls))
    optimizer.step()
    before = p._version
    optimizer.step()
    assert p._version > before
