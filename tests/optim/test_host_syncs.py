"""No step waits for a device, and a compiled step is one graph."""

import copy
from collections import Counter

import pytest
import torch
from table import every_backend, every_rule
from torch import nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import SGDP, AdamP

pytestmark = every_backend


def equal(model, other):
    return all(
        torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True)
    )


def usual(cls):
    return {"lr": 0.05} | ({"momentum": 0.9, "weight_decay": 1e-3} if cls is SGDP else {})


class Asked(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[str(func)] += 1
        return func(*args, **(kwargs or {}))


@every_rule
@pytest.mark.parametrize("options", [{}, {"caution": True}, {"row_groups": 2}])
def test_no_step_asks_a_device_for_a_value(cls, options, backend):
    """Only the step counts are read, and they lie on the CPU."""
    params = [nn.Parameter(torch.randn(shape)) for shape in [(6, 4), (4, 3, 2), (4,), (2, 70_000)]]
    optimizer = cls(params, **backend, **usual(cls), **options)
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    with Asked() as asked:
        optimizer.step()
    reads = {"checked": "foreach" in backend, "used": backend == {"foreach": True}}
    counted = len(params) * sum(reads.values()) if cls is AdamP else 0
    assert asked.names.pop("aten._local_scalar_dense.default", 0) == counted
    waiting = {"nonzero", "equal", "masked_select", "repeat_interleave.Tensor", "is_nonzero"}
    assert not [name for name in asked.names if any(word in name for word in waiting)]
    assert (sum(asked.names.values()) > 10) == ("foreach" in backend)


@every_rule
def test_compiled_step_is_the_step_in_one_graph(cls, backend):
    """The first step makes the state and the second is traced with it; no later one is."""
    torch._dynamo.reset()
    counters.clear()
    params = [nn.Parameter(torch.randn(shape)) for shape in [(6, 4), (5, 3, 2), (4,)]]
    twins = copy.deepcopy(params)
    options = usual(cls) | (backend if backend == {"foreach": False} else {})
    optimizer, plain = cls(params, **options), cls(twins, **options)
    compiled = torch.compile(optimizer.step, backend="aot_eager")
    for t in range(4):
        for p, q in zip(params, twins, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        plain.step()
        with torch._dynamo.config.patch(error_on_recompile=t > 1):
            compiled()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    assert not counters["graph_break"]
