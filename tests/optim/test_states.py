"""States follow their weights: casts, moments of two dtypes, counts of steps, devices."""

import copy
from itertools import product

import pytest
import torch
from table import every_backend, every_rule, stepped, usual
from torch import nn

from tangential import AdamP

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@every_backend
@every_rule
@pytest.mark.parametrize(("first", "then"), [x for x in product(FLOATS, FLOATS) if x[0] != x[1]])
def test_a_model_that_is_cast_trains_on(cls, backend, first, then):
    """As one that had the second dtype from the start, within what the narrower dtype holds."""
    param, optimizer = stepped(cls, backend, dtype=first)
    twin = nn.Parameter(param.detach().double())
    oracle = cls([twin], **usual(cls), foreach=False)
    oracle.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    param.data = param.data.to(then)
    for _ in range(3):
        param.grad = torch.randn(8, 4).to(then)
        twin.grad = param.grad.double()
        optimizer.step()
        oracle.step()
    assert param.dtype == then
    narrowest = max(torch.finfo(first).eps, torch.finfo(then).eps)
    torch.testing.assert_close(param.double(), twin, rtol=8 * narrowest, atol=8 * narrowest)


@every_backend
@every_rule
@pytest.mark.parametrize("wide", [{0}, {1}, {1, 2}])
def test_weights_of_one_group_may_have_moments_of_two_dtypes(cls, backend, wide):
    """Each steps as it would alone, whichever of them a checkpoint has left in float32."""
    params = [nn.Parameter(torch.randn(4, 5).bfloat16()) for _ in range(3)]
    twins = copy.deepcopy(params)
    together = cls(params, **usual(cls), **backend)
    alone = [cls([p], **usual(cls), **backend) for p in twins]
    for t in range(4):
        for p, q in zip(params, twins, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for optimizer in (together, *alone):
            optimizer.step()
        for i in wide if t == 0 else ():
            for state in (together.state[params[i]], alone[i].state[twins[i]]):
                state.update({k: state[k].float() for k in together.buffers})
    for p, q, optimizer in zip(params, twins, alone, strict=True):
        torch.testing.assert_close(p, q)
        for name in together.buffers:
            torch.testing.assert_close(together.state[p][name], optimizer.state[q][name])


@every_backend
@pytest.mark.parametrize(
    "step", [torch.tensor(1), 1, 1.0, torch.ones(1), torch.tensor(1.0).double()]
)
def test_a_count_of_steps_may_be_of_any_type(backend, step):
    param, optimizer = stepped(AdamP, backend)
    optimizer.state[param]["step"] = copy.deepcopy(step)
    optimizer.step()
    assert float(optimizer.state[param]["step"]) == 2


@every_backend
@every_rule
def test_nothing_is_made_on_the_default_device(cls, backend):
    param, optimizer = stepped(cls, backend, steps=0, low_precision="stochastic")
    narrow = nn.Parameter(torch.randn(4, 3).bfloat16())
    optimizer.add_param_group({"params": [narrow]})
    for _ in range(2):
        narrow.grad = torch.ones_like(narrow)
        with torch.device("meta"):
            optimizer.step()
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer.load_state_dict(saved)
    devices = {x.device.type for s in optimizer.state.values() for x in s.values()}
    assert devices == {"cpu"}
    assert param.isfinite().all()
