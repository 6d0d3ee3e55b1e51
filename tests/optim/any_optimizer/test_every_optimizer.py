"""Every optimizer that docs/project.md lists: its own step, projected."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from optimizers import INNER
from oracle import Oracle
from table import OUTCOMES, SHAPES, close, gradient, leaf

from tangential import project

DOC = Path(__file__).parents[3] / "docs" / "project.md"
MATRICES = [(12, 7), (1, 9), (9, 1)]
FULL = [shape for shape in SHAPES if 0 not in shape]
LIMITED = {
    "torch.optim.Muon": MATRICES,
    "timm.optim.Muon": [*MATRICES, (6, 3, 3, 3), (10,)],
    **dict.fromkeys(("torch.optim.Adafactor", "pytorch_optimizer.CAME"), FULL),
    "pytorch_optimizer.Shampoo": FULL,
}


def decay_of(optimizer):
    """The decoupled decay of `weight_decay=0.5`, which is that of SGDP for torch's SGD."""
    momentum = optimizer.param_groups[0]["momentum"] if type(optimizer) is torch.optim.SGD else 0
    return 0.5 / (1 - momentum)


def twin_of(optimizer, build, oracles, grads):
    """Copies of the weights with an optimizer that is not projected, at the same state.

    Weights that are never projected decay before the step.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    kept = 1 - optimizer.param_groups[0]["lr"] * decay_of(optimizer)
    never = [oracle.axes < 2 or oracle.w.size == 0 for oracle in oracles]
    twins = [leaf(p.detach() * (kept if x else 1)) for p, x in zip(params, never, strict=True)]
    for twin, g in zip(twins, grads, strict=True):
        twin.grad = torch.tensor(g)
    plain = build(twins)
    for key, value in optimizer.param_groups[0].items():
        plain.param_groups[0][key] = twins if key == "params" else copy.deepcopy(value)
    for p, twin in zip(params, twins, strict=True):
        plain.state[twin] = copy.deepcopy(optimizer.state[p])
    plain.step()
    return twins, plain


@pytest.mark.parametrize("name", INNER)
def test_the_step_is_the_optimizers_own_projected(name):
    build, rng, outcomes = INNER[name], np.random.default_rng(0), set()
    shapes = LIMITED.get(name, SHAPES)
    params = [leaf(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    optimizer = project(build(params), weight_decay=0.5)
    cls, lr = type(optimizer), optimizer.param_groups[0]["lr"]
    if hasattr(optimizer, "train"):
        optimizer.train()
    options = {"lr": lr, "weight_decay": decay_of(optimizer)}
    oracles = [Oracle(p.detach().numpy(), "sgd", **options) for p in params]
    for t in range(6):
        grads = [gradient(oracle, OUTCOMES[t % 3], rng) for oracle in oracles]
        befores = [p.detach().clone() for p in params]
        twins, plain = twin_of(optimizer, build, oracles, grads)
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        for p, twin, before, g, oracle in zip(params, twins, befores, grads, oracles, strict=True):
            never = oracle.axes < 2 or oracle.w.size == 0
            expected = oracle.amend(g, (twin - before).detach().numpy())
            expected = twin.detach().numpy() if never else expected
            assert close(p, expected, 1e-12)
            oracle.w = p.detach().numpy().copy()
            outcomes.add(oracle.outcome)
            assert same_state(optimizer.state[p], plain.state[twin])
    assert type(optimizer) is cls
    assert outcomes == set(OUTCOMES)


def same_state(state, other):
    """Whether two states are equal, bit for bit."""
    assert state.keys() == other.keys()
    return all(torch.as_tensor(x).equal(torch.as_tensor(other[name])) for name, x in state.items())


def test_the_docs_list_what_is_tested():
    rows = re.findall(r"^\| `(\S+)` \|", DOC.read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(INNER)
