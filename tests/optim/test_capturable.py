"""With capturable=True, a step reads nothing on the host, so a CUDA graph can repeat it."""

import copy

import pytest
import torch
from table import every_rule, leaf, usual
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import AdamP

SHAPES = [(8, 4), (5, 3, 2), (6, 70), (4,), (8, 4)]
OPTIONS = {
    "plain": {},
    "nesterov": {"nesterov": True, "weight_decay": 0.1},
    "by weight": {"projection": "weight"},
    "caution": {"caution": True},
    "kahan": {"low_precision": "kahan"},
    "stochastic": {"low_precision": "stochastic", "state_dtype": torch.float32},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
every_loop = pytest.mark.parametrize("foreach", [False, True])


class HostReads(TorchDispatchMode):
    """Counts the numbers that are read on the host."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def weights(device="cpu", dtype=torch.float32):
    params = [nn.Parameter(torch.randn(shape).to(device, dtype)) for shape in SHAPES]
    for p in params:
        p.grad = torch.randn(p.shape).to(device, dtype)
    return params


def reads(cls, options):
    """Numbers that the second step reads on the host, with weights on a device without values."""
    params = weights("meta", torch.bfloat16)
    optimizer = cls(params, **usual(cls), **options)
    optimizer.step()
    with HostReads() as seen:
        optimizer.step()
    return seen.count


@every_rule
@every_loop
@every_option
def test_a_capturable_step_reads_nothing_on_the_host(cls, foreach, options):
    assert reads(cls, {"capturable": True, "foreach": foreach, **options}) == 0


def test_other_steps_read_their_count_on_the_host():
    assert reads(AdamP, {"capturable": False, "foreach": True}) >= len(SHAPES)


@every_rule
@every_loop
@every_option
def test_a_capturable_step_is_the_step(cls, foreach, options):
    dtype = torch.bfloat16 if "low_precision" in options else torch.float64
    params = weights(dtype=dtype)
    twins = copy.deepcopy(params)
    optimizers = [
        cls(ps, **usual(cls), foreach=foreach, capturable=capturable, **options)
        for ps, capturable in ((params, True), (twins, False))
    ]
    for t in range(4):
        for p, q in zip(params, twins, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        params[0].grad = twins[0].grad = None if t == 0 else params[0].grad  # it counts fewer steps
        for optimizer in optimizers:
            optimizer.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(
                p, q, rtol=0, atol=0 if "low_precision" in options else 1e-14
            )


@every_rule
@every_loop
def test_a_capturable_step_may_be_captured(cls, foreach, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with FakeTensorMode(allow_non_fake_inputs=True):  # it refuses to read what a device would have
        param = leaf(torch.empty(4, 3, device="cuda"))
        param.grad = torch.empty(4, 3, device="cuda")
        options = usual(cls) | {"lr": torch.empty((), device="cuda")}
        optimizer = cls([param], **options, foreach=foreach, capturable=True)
        optimizer.step()
        optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
        with pytest.raises(RuntimeError, match="lr is a tensor on the CPU"):
            optimizer.step()


def test_counts_of_steps_are_on_the_device_after_loading_a_checkpoint(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        param = leaf(torch.empty(4, 3, device="cuda"))
        param.grad = torch.empty(4, 3, device="cuda")
        optimizer, other = (AdamP([param], foreach=True, capturable=True) for _ in range(2))
        optimizer.step()
        other.load_state_dict(optimizer.state_dict())
        other.step()
        assert other.state[param]["step"].is_cuda


def test_a_capture_of_triton_s_step_needs_a_step_before(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        param = leaf(torch.empty(4, 3, device="cuda"))
        param.grad = torch.empty(4, 3, device="cuda")
        optimizer = AdamP([param], fused=True, capturable=True)
        with pytest.raises(RuntimeError, match="take that step first, or use fused=False"):
            optimizer.step()
        assert not optimizer.state  # the graph would own the memory of new states


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_rule
@every_option
@pytest.mark.parametrize("backend", [{"foreach": True}, {"fused": True}], ids=["foreach", "fused"])
@pytest.mark.parametrize("are_moved", [False, True])
def test_replays_of_a_cuda_graph_are_steps(cls, backend, options, are_moved):
    """If `are_moved`, the graph makes the gradients, as if it had captured the backward pass."""
    dtype = torch.bfloat16 if "low_precision" in options else torch.float32
    params = weights("cuda", dtype)
    twins = copy.deepcopy(params)
    sources = [p.grad for p in params]
    lr = torch.tensor(0.1, device="cuda")
    set_up = usual(cls) | {"lr": lr, "capturable": True, **backend, **options}
    optimizer, plain = cls(params, **set_up), cls(twins, **set_up)
    for q, source in zip(twins, sources, strict=True):
        q.grad = source.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        optimizer.step()  # makes states and tables
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for p, source in zip(params, sources, strict=True):
            p.grad = source.clone() if are_moved else source
        optimizer.step()
    plain.step()
    for t in range(4):
        for q, source in zip(twins, sources, strict=True):
            source.copy_(torch.randn(source.shape))
            q.grad.copy_(source)
        lr.fill_(0.1 / (t + 1))
        graph.replay()
        plain.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q)
