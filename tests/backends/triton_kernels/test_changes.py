"""`project` with Triton's kernels takes the steps that it takes with torch's operations."""

import numpy as np
import pytest
import torch
from oracle import Oracle
from table import OUTCOMES, gradient, leaf

from tangential import project, radial
from tangential.backends import triton
from tangential.backends.triton import changes

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, as in test_step

# four classes of piece sizes; a row of several tiles; units of two pieces; a vector
SHAPES = [(6, 3, 3, 3), (2, 300), (2, 1500), (2, 2500), (2, 4501), (4,)]
RULES = {
    "remove": {},
    "remove, weight": {"projection": "weight"},
    "remove, latch": {"latch": 2},
    "brake": {"radial": radial.brake()},
    "fixed_norm": {"radial": radial.fixed_norm(), "projection": "weight"},
    "target_norm": {"radial": radial.target_norm(), "projection": "row", "row_groups": 2},
}


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(changes, "PIECE", 4096)


def trained(fused, options):
    """Weights and the rules' numbers after steps with every decision of the gate."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    params = [leaf(torch.randn(shape)) for shape in SHAPES]
    optimizer = project(torch.optim.Adam(params, lr=0.01), weight_decay=0.1, fused=fused, **options)
    for t in range(3 if "latch" in options else 2):
        for i, p in enumerate(params):
            outcome = OUTCOMES[(t + i) % 3]
            g = gradient(Oracle(p.detach().double().numpy(), "sgd"), outcome, rng)
            p.grad = torch.tensor(g, dtype=torch.float32)
        optimizer.step()
    state = [
        value
        for p in params
        for name, value in optimizer.state[p].items()
        if name.startswith(("radial", "gate"))
    ]
    return [p.detach() for p in params], state


@pytest.mark.parametrize("options", RULES.values(), ids=RULES)
def test_every_rule_and_decision(options, monkeypatch):
    counts = []
    measure = triton.measure
    monkeypatch.setattr(
        triton, "measure", lambda xs, **how: counts.append(len(xs)) or measure(xs, **how)
    )
    ours = trained(True, options)
    assert len(counts) >= 2
    assert set(counts) <= {5, 6}
    counts.clear()
    theirs = trained(False, options)
    assert not counts
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)


def test_an_infinite_element_does_not_spread():
    w = leaf(torch.randn(4, 6))
    w.grad = torch.zeros(4, 6)
    w.data[1, 2] = torch.inf
    sgd = torch.optim.SGD([w], lr=0.1)
    project(sgd, weight_decay=0.1, projection="row", fused=True).step()
    assert w.isfinite().sum() == 23


def test_what_the_kernels_do_not_take_goes_to_torch():
    w = torch.randn(6, 4)
    for start, row_axis in ((w, 1), (w.double(), 0), (w.bfloat16(), 0)):
        param = leaf(start.clone())
        param.grad = torch.randn_like(param)
        project(torch.optim.Adam([param]), fused=True, row_axis=row_axis).step()
        assert not torch.equal(param, start)
