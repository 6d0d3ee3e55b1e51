"""A captured step launches kernels only, and each replay is a step; the interpreter runs them."""

import copy
from functools import partial

import pytest
import torch
from table import every_rule, leaf, usual
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import AdamP
from tangential.backends.triton import kernels, plan

SHAPES = [(6, 5), (3,)]
aten = torch.ops.aten


class Graph(TorchDispatchMode):
    """Records kernels instead of running them; refuses copies and whatever else is no kernel."""

    def __init__(self, monkeypatch, lr):
        super().__init__()
        self.calls, self.tables, self.lr = [], [], lr
        monkeypatch.setattr(plan, "is_capturing", lambda _: True)
        for name in ("guess", "advance", "judge", "amend"):
            monkeypatch.setattr(kernels, name, Recorded(self, getattr(kernels, name)))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is aten._foreach_add_.ScalarList:
            return self.calls.append(partial(func, *args))
        is_new = func in (aten.zeros.default, aten.empty.memory_format)
        is_lr = func is aten._local_scalar_dense.default and args[0] is self.lr  # on the CPU here
        assert is_new or is_lr or func.is_view or func.namespace == "profiler", func
        result = func(*args, **(kwargs or {}))
        if is_new:
            self.calls.append(result.zero_ if func is aten.zeros.default else result.random_)
        return result

    def replay(self):
        for call in self.calls:
            call()


class Recorded:
    def __init__(self, graph, kernel):
        self.graph, self.kernel = graph, kernel

    def __getitem__(self, grid):
        def launch(tables, *args, **options):
            self.graph.tables.append(tables)
            self.graph.calls.append(partial(self.kernel[grid], tables, *args, **options))

        return launch


def pair(cls, **options):
    """An optimizer that has taken a step, as before a capture, and its twin."""
    params = [leaf(torch.randn(shape)) for shape in SHAPES]
    options = {**usual(cls), "fused": True, "weight_decay": 0.1, **options}
    optimizers = [cls(ps, capturable=True, **options) for ps in (params, copy.deepcopy(params))]
    draw(*optimizers)
    for optimizer in optimizers:
        optimizer.step()
    return optimizers


def weights(optimizer):
    return optimizer.param_groups[0]["params"]


def draw(*optimizers):
    """New gradients in the memory of the old ones."""
    for params in zip(*map(weights, optimizers), strict=True):
        grad = torch.randn_like(params[0])
        for p in params:
            p.grad = grad.clone() if p.grad is None else p.grad.copy_(grad)


def captured(optimizer):
    lr = optimizer.param_groups[0]["lr"]
    with pytest.MonkeyPatch.context() as monkeypatch, Graph(monkeypatch, lr) as graph:
        optimizer.step()
    return graph


def assert_replays_are_steps(graph, optimizer, twin):
    for t in range(3):
        draw(optimizer, twin)
        for each in (optimizer, twin):
            each.param_groups[0]["lr"].fill_(0.1 / (t + 1))
        graph.replay()
        twin.step()
        for p, q in zip(weights(optimizer), weights(twin), strict=True):
            assert torch.equal(p, q)


@every_rule
@pytest.mark.parametrize("are_moved", [False, True])
def test_replays_are_steps(cls, are_moved):
    optimizer, twin = pair(cls, lr=torch.tensor(0.1))
    for p in weights(optimizer) if are_moved else ():
        p.grad = torch.randn_like(p)  # as a captured backward pass leaves it
    graph = captured(optimizer)
    assert len(graph.calls) == (7 if are_moved else 5)  # with the allocation of a workspace
    assert_replays_are_steps(graph, optimizer, twin)


def test_steps_outside_of_the_graph_leave_its_tables_alone():
    optimizer, twin = pair(AdamP, lr=torch.tensor(0.1))
    graph = captured(optimizer)
    before = [tensor.clone() for tensors in optimizer._stepper.captured for tensor in tensors]
    grads = [p.grad for p in weights(optimizer)]
    for each in (optimizer, twin):
        for p in weights(each)[1:]:
            p.grad = p.grad.clone()
        weights(each)[0].grad = None  # another plan
        each.step()
    for p, grad in zip(weights(optimizer), grads, strict=True):
        p.grad = grad
    kept = [tensor for tensors in optimizer._stepper.captured for tensor in tensors]
    assert all(torch.equal(x, y) for x, y in zip(kept, before, strict=True))
    places = {x.data_ptr() for x in kept}
    for tables in graph.tables:
        assert {
            tables.params.data_ptr(),
            tables.units.data_ptr(),
            tables.tiles.data_ptr(),
        } <= places
    assert_replays_are_steps(graph, optimizer, twin)


def forget_a_gradient(optimizer):
    weights(optimizer)[0].grad = None


def move_states(optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def move_a_weight(optimizer):
    weights(optimizer)[1].data = weights(optimizer)[1].detach().clone()


def forget_the_step(optimizer):
    optimizer._stepper.plans.clear()


@pytest.mark.parametrize("change", [forget_a_gradient, move_states, move_a_weight, forget_the_step])
def test_a_capture_needs_a_step_of_the_same_tensors_before(change):
    optimizer, _ = pair(AdamP)
    change(optimizer)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(RuntimeError, match="only after a step of the same weights, states"):
        captured(optimizer)
    torch.testing.assert_close(optimizer.state_dict()["state"], before, rtol=0, atol=0)


@every_rule
def test_kernels_read_no_memory_that_no_one_has_written(cls):
    """`torch.empty` fills its result with NaN here."""
    ways = []
    for is_filled in (False, True):
        torch.manual_seed(1)
        torch.use_deterministic_algorithms(is_filled)
        try:
            optimizer, _ = pair(cls)
            optimizer.step()
        finally:
            torch.use_deterministic_algorithms(False)
        ways.append(weights(optimizer))
    assert all(torch.equal(p, q) for p, q in zip(*ways, strict=True))
