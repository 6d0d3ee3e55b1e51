"""What the laws are tested over: rules, backends, options, shapes, and gradients for the gate."""

import numpy as np
import pytest
import torch
from oracle import Oracle, without_radial

from tangential import SGDP, AdamP
from tangential.backends import native
from tangential.backends.native import StepPlan

RULES = {"adam": AdamP, "sgd": SGDP}
needs_kernel = pytest.mark.skipif(not native.kernel, reason=native.reason())
every_backend = pytest.mark.parametrize(
    "backend",
    [
        pytest.param({"foreach": False}, id="eager"),
        pytest.param({"foreach": True}, id="foreach"),
        pytest.param({"fused": True}, id="native", marks=needs_kernel),
    ],
)
every_rule = pytest.mark.parametrize("cls", RULES.values())
SHAPES = [(64, 3, 3, 3), (128, 64), (1, 128), (128, 1), (10,), (), (5, 7, 2), (0, 4), (7, 0)]

OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "wd_ratio": {"weight_decay": 0.1, "wd_ratio": 0.5},
    "matched": {"weight_decay": 0.1, "wd_ratio": "matched"},
    "nesterov": {"nesterov": True, "weight_decay": 0.1},
    "maximize": {"maximize": True, "weight_decay": 0.1},
    "eps": {"eps": 1e-3},
    "delta": {"delta": 0.3},
    "row": {"projection": "row", "weight_decay": 0.1},
    "weight": {"projection": "weight", "weight_decay": 0.1},
    "off": {"projection": "off", "weight_decay": 0.1},
    "caution": {"caution": True, "weight_decay": 0.1},
    "caution row": {"caution": True, "projection": "row"},
    "last axis": {"row_axis": -1, "weight_decay": 0.1},
    "everything": {
        "weight_decay": 0.1,
        "wd_ratio": 0.3,
        "nesterov": True,
        "maximize": True,
        "caution": True,
        "delta": 0.2,
    },
}
RULE_OPTIONS = {
    "adam": {"betas": {"betas": (0.8, 0.95)}},
    "sgd": {
        "no momentum": {"momentum": 0.0},
        "dampening": {"dampening": 0.5},
        "project_buffer": {"project_buffer": True, "weight_decay": 0.1},
        "project_buffer caution": {"project_buffer": True, "caution": True},
        "project_buffer nesterov": {"project_buffer": True, "nesterov": True},
    },
}
OUTCOMES = ("row", "weight", "none")


def usual(cls: type) -> dict[str, float]:
    """Options with which both rules train."""
    return {"lr": 0.01} | ({"momentum": 0.9} if cls is SGDP else {})


def leaf(x: torch.Tensor) -> torch.Tensor:
    """x itself as a weight, strides and all."""
    return x.detach().requires_grad_()


def stepped(cls, backend, shape=(8, 4), steps=1, dtype=torch.float32, **options):
    """A weight, its optimizer after some steps, and the next gradient."""
    param = torch.nn.Parameter(torch.randn(shape, dtype=dtype))
    optimizer = cls([param], **usual(cls), **backend, **options)
    for _ in range(steps):
        param.grad = torch.randn(shape, dtype=dtype)
        optimizer.step()
    param.grad = torch.randn(shape, dtype=dtype)
    return param, optimizer


def plans_of(optimizer: torch.optim.Optimizer) -> list[StepPlan]:
    """The kernel plans that an optimizer remembers, one per group."""
    return [*optimizer._stepper.plans.values()]


def left_by_kernel(optimizer: torch.optim.Optimizer) -> list[list[torch.Size]]:
    """The shapes of the weights that the kernel does not take, per group."""
    return [[weight.param.shape for weight in plan.other_weights] for plan in plans_of(optimizer)]


def cases():
    for rule in RULES:
        usual = {"lr": 0.01} if rule == "adam" else {"lr": 0.003, "momentum": 0.9}
        for name, options in (OPTIONS | RULE_OPTIONS[rule]).items():
            yield rule, name, usual | options


def gradient(oracle: Oracle, outcome: str, rng: np.random.Generator) -> np.ndarray:
    """A gradient that drives the published gate to `outcome`, where the shape allows it.

    Orthogonal to w in every unit; in the whole but in no unit; or in neither.
    """
    w = oracle.w
    g = rng.standard_normal(w.shape)
    if oracle.axes < 2 or w.size == 0:
        return g
    rows = oracle.units(w)
    tangent = without_radial(oracle.units(g), rows, 0.0)
    if outcome == "row":
        return oracle.put_back(tangent)
    radial = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if outcome == "none":
        return oracle.put_back(tangent + rng.choice([-1.0, 1.0]) * radial)
    signs = np.where(np.arange(len(rows)) % 2, 1.0, -1.0)[:, None]
    g = oracle.put_back(tangent + signs * radial)
    return without_radial(g.reshape(-1), w.reshape(-1), 0.0).reshape(w.shape)


def streams(rule="adam", shapes=SHAPES, steps=20, seed=0, **options):
    """Weights, and for every step gradients that drive the gate to each of its outcomes in turn."""
    rng = np.random.default_rng(seed)
    oracles = [Oracle(rng.standard_normal(shape), rule, lr=0.01, **options) for shape in shapes]
    params, grads = [oracle.w for oracle in oracles], []
    for t in range(steps):
        numbered = enumerate(oracles, t)
        grads.append([gradient(oracle, OUTCOMES[i % 3], rng) for i, oracle in numbered])
        for oracle, g in zip(oracles, grads[-1], strict=True):
            oracle.step(g)
    return params, grads


def close(
    actual: torch.Tensor, expected: np.ndarray, tolerance: float, scale: float = 1e-30
) -> bool:
    """Largest difference within `tolerance` of the largest value, which is no less than `scale`."""
    actual = actual.detach().double().numpy()
    assert actual.shape == expected.shape
    scale = np.abs(expected).max(initial=scale)
    return bool(np.abs(actual - expected).max(initial=0.0) <= tolerance * scale)
