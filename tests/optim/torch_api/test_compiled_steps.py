"""Compiled steps: one graph, which follows a schedule and is not compiled again."""

import copy
import shutil

import pytest
import torch
from table import every_backend, every_rule
from torch import nn
from torch._dynamo.utils import counters
from torch.optim import lr_scheduler
from trained_nets import given_gradients, weights

from tangential import AdamP

pytestmark = pytest.mark.slow


def usual(cls):
    return {"lr": 0.05} if cls is AdamP else {"lr": 0.05, "momentum": 0.9}


@every_rule
def test_a_compiled_step_is_not_compiled_again_when_a_scheduler_turns_numbers(cls):
    """One graph makes the states, the other has all numbers as inputs."""
    torch._dynamo.reset()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    params = weights()
    twins = copy.deepcopy(params)
    optimizer, plain = (cls(ps, **usual(cls), weight_decay=0.1) for ps in (params, twins))
    step = torch.compile(optimizer.step, backend=counted, fullgraph=True)
    schedule = lr_scheduler.LinearLR(plain, 1 / 3, end_factor=0.0, total_iters=6)
    for t in range(8):
        given_gradients(params)
        for p, q in zip(params, twins, strict=True):
            q.grad = p.grad.clone()
        for group in (optimizer.param_groups[0], plain.param_groups[0]):
            group["lr"] = plain.param_groups[0]["lr"]
            group["weight_decay"] = 0.1 / (t + 1)
            if cls is AdamP:
                group["betas"] = (0.9 - 0.01 * t, 0.999 - 0.001 * t)
            else:
                group["momentum"] = 0.9 - 0.01 * t
        step()
        plain.step()
        schedule.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert len(graphs) == 2


@pytest.mark.skipif(not shutil.which("c++"), reason="Inductor needs a C++ compiler")
@pytest.mark.parametrize("name", ["lr", "betas"])
def test_a_graph_that_inductor_compiled_follows_a_schedule(name, tmp_path, monkeypatch):
    """Its cache of graphs has kept the first value of a float that is an alpha or an exponent."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    values = {
        "lr": [0.1, 0.07, 0.05, 0.02],
        "betas": [(0.9, 0.99), (0.8, 0.95), (0.7, 0.9), (0.6, 0.8)],
    }
    param = nn.Parameter(torch.randn(8, 4))
    twin = copy.deepcopy(param)
    optimizer, plain = AdamP([param], weight_decay=0.1), AdamP([twin], weight_decay=0.1)
    step = torch.compile(optimizer.step)
    for value in values[name]:
        for group in (*optimizer.param_groups, *plain.param_groups):
            group[name] = value
        given_gradients([param])
        twin.grad = param.grad.clone()
        step()
        plain.step()
        torch.testing.assert_close(param, twin, rtol=1e-5, atol=1e-6)


@every_backend
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
