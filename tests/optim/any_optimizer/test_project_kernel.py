"""The kernel copies, sums and amends as torch's operations do, for every rule and decision."""

import numpy as np
import pytest
import torch
from oracle import Oracle
from table import OUTCOMES, gradient, leaf, needs_kernel

from tangential import project, radial
from tangential.backends import amend, native

pytestmark = needs_kernel
SHAPES = [(64, 3, 3, 3), (128, 64), (5, 20011), (1, 300), (5, 7, 2)]
RULES = {
    "remove": {},
    "latch": {"latch": 2},
    "brake": {"radial": radial.brake()},
    "fixed_norm": {"radial": radial.fixed_norm(), "projection": "row"},
    "relative": {"radial": radial.relative(), "projection": "weight"},
    "update_floor": {"radial": radial.update_floor(0.01), "latch": 2},
    "rotational": {"radial": radial.rotational(), "projection": "row"},
    "corrected_decay": {"radial": radial.corrected_decay(0.1), "latch": 2},
    "target_norm": {"radial": radial.target_norm(), "projection": "weight"},
    "bounded_norm": {"radial": radial.bounded_norm(rate=2e-5), "projection": "row"},
}


def trained(options, dtype, steps=6):
    """Weights after some steps, one for every decision of the gate, and the rules' numbers."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    params = [leaf(torch.randn(shape, dtype=dtype)) for shape in SHAPES]
    optimizer = project(torch.optim.Adam(params, lr=0.01), weight_decay=0.1, **options)
    for _ in range(steps):
        for p, outcome in zip(params, [*OUTCOMES, *OUTCOMES], strict=False):
            g = gradient(Oracle(p.detach().double().numpy(), "sgd"), outcome, rng)
            p.grad = torch.tensor(g, dtype=dtype)
        optimizer.step()
    own = ("radial", "gate")
    state = [v for p in params for k, v in optimizer.state[p].items() if k.startswith(own)]
    return [p.detach() for p in params], state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", RULES.values(), ids=RULES)
def test_the_kernel_is_the_reference(options, dtype, monkeypatch):
    batches = []
    by_kernel = amend._amend_by_kernel
    monkeypatch.setattr(amend, "_amend_by_kernel", lambda b: batches.append(b) or by_kernel(b))
    fast = trained(options, dtype)
    assert len(batches) == 6
    assert len(batches[0].weights) == len(SHAPES)
    monkeypatch.setattr(native, "can_measure", lambda change: False)
    slow = trained(options, dtype)
    assert len(batches) == 6
    limit = {"rtol": 1e-5, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 1e-11}
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, **({"atol": 1e-13} | limit))


@pytest.mark.parametrize("options", RULES.values(), ids=RULES)
def test_no_bit_depends_on_the_number_of_threads(options):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(trained(options, torch.float32, steps=3))
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(*results, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_an_infinite_element_does_not_spread():
    w = leaf(torch.randn(4, 6))
    w.grad = torch.zeros(4, 6)
    w.data[1, 2] = torch.inf
    project(torch.optim.SGD([w], lr=0.1), weight_decay=0.1, projection="row").step()
    assert w.isfinite().sum() == 23
