"""What the kernel refuses, so that no step reads or writes memory that is not its own."""

import itertools

import pytest
import torch
from table import (
    leaf,
    needs_kernel,
    plans_of,
)

from tangential import SGDP, AdamP
from tangential.backends import native

pytestmark = needs_kernel
kernel = native.kernel


def test_a_plan_uses_located_addresses_only_once():
    p = leaf(torch.ones(3, 2))
    p.grad = torch.ones(3, 2)
    optimizer = AdamP([p], fused=True)
    optimizer.step()
    [plan] = plans_of(optimizer)
    with pytest.raises(ValueError, match="locate them before every step"):
        plan.plan.step(plan.tensors, kernel.Options(), 1)


def plan(dtype="float32", state_dtype="float32", units=2, unit_size=3, size=6):
    layout = kernel.Dtype[dtype], kernel.Dtype[state_dtype], units, unit_size, size, 0
    return kernel.Plan([layout])


def test_plan_refuses_what_it_has_no_code_for():
    with pytest.raises(ValueError, match="instruction_set"):
        kernel.Plan([], instruction_set="MMX")
    kinds = ("float32", "float64", "bfloat16", "float16")
    taken = {(x, x) for x in kinds} | {("bfloat16", "float32"), ("float16", "float32")}
    for weight, state in set(itertools.product(kinds, kinds)) - taken:
        with pytest.raises(ValueError, match="no code for the dtypes"):
            plan(weight, state)
    for weight, state in taken:
        assert plan(weight, state).rows == 2
    for units, unit_size, size in [(2, 3, 7), (-1, 3, 6), (2, 4, 6), (2, -3, -6), (2**62, 4, 0)]:
        with pytest.raises(ValueError, match=r"units \*"):
            plan(units=units, unit_size=unit_size, size=size)


def test_a_step_refuses_options_whose_buffers_it_was_not_given():
    """A plan of SGD has no second moment: Adam would write through a null pointer."""
    p = leaf(torch.ones(2, 3))
    p.grad = torch.ones(2, 3)
    optimizer = SGDP([p], lr=0.1, momentum=0.9, fused=True)
    optimizer.step()
    [taken] = plans_of(optimizer)
    options = optimizer.resolved(optimizer.param_groups[0])
    assert taken.locate(options, [p], optimizer.state, 0)
    before = p.detach().clone()
    with pytest.raises(ValueError, match="lacks a buffer"):
        taken.plan.step(taken.tensors, kernel.Options(), 1)  # Adam, by default
    assert torch.equal(p, before)
    with pytest.raises(ValueError, match="as many as the plan has weights"):
        kernel.Plan([]).step(taken.tensors, kernel.Options(), 1)
