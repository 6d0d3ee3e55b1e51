"""Two proofs of scale invariance, by gradients and by rescaling, and the published gate."""

import sys
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from tangential import maths
from tangential.backends import Units, as_real, ordered_sum, rows_of, widen
from tangential.invariance.copies import normal_like, widened
from tangential.invariance.evidence import (
    ROWS,
    TOLERANCE,
    WHOLE,
    Evidence,
    Finding,
    judge,
    possible_units,
)
from tangential.invariance.probe import Probe

Findings = dict[str, Finding]
Decision = Literal["row", "weight", "off"]


def judge_by_gradients(probe: Probe, batches: list[Any]) -> Findings:
    """Judge every weight by g.w, with one backward pass per batch."""
    evidence = {name: Evidence(param) for name, param in probe.params.items()}
    floor = []
    for number, batch in enumerate(batches):
        grads = probe.gradients(batch, number)
        effects = [each.add(grads.get(name)) for name, each in evidence.items()]
        floor.append(probe.precision.noise * max(effects))
    return {name: judge(each, floor) for name, each in evidence.items()}


def confirm_by_rescaling(
    probe: Probe, batch: Any, findings: Findings, seed: int
) -> dict[str, bool]:
    """Check each finding by the loss on one batch, with one weight at a time replaced.

    Invariant: random factors for the units do not change the loss, but a random move of the same
    length does, and so do factors for finer units. Variant: one factor for the whole weight changes
    it. Dead: one factor per element does not change it.
    """
    generator = torch.Generator().manual_seed(seed)
    base = probe.value(batch, {})
    tolerance = max(abs(base) * probe.precision.unchanged, sys.float_info.min)
    confirmed = {}
    for name, finding in findings.items():
        change = lambda w, name=name: abs(probe.value(batch, {name: w}) - base) / tolerance
        confirmed[name] = _confirmed(finding, probe.params[name].detach(), change, generator)
    return confirmed


def _confirmed(
    finding: Finding, weight: Tensor, change: Callable[[Tensor], float], generator: torch.Generator
) -> bool:
    """`change(w)`: how much the loss changes with the weight w; up to 1 is no change."""
    if finding.kind == "dead":  # factors are > 0: a row of one element is invariant up to its sign
        return change(rescaled(weight.reshape(-1, 1), ROWS, generator).view_as(weight)) <= 1
    if not weight.any():
        return change(shifted(weight, 1.0, generator)) > 1
    if finding.kind == "variant":
        return change(rescaled(weight, WHOLE, generator)) > 1
    other = rescaled(weight, finding.units, generator)
    usual = change(shifted(weight, (other - weight).norm().item(), generator))
    if usual <= 1 or change(other) > max(1, TOLERANCE * usual):
        return False
    finer = _finer(tuple(weight.shape), finding.units)
    return all(change(rescaled(weight, units, generator)) > 1 for units in finer)


def _finer(shape: tuple[int, ...], units: Units) -> list[Units]:
    """The coarsest splits into more units: if none of them is invariant, no finer split is.

    >>> [(finer.row_axis, finer.row_groups) for finer in _finer((12, 2), WHOLE)]
    [(0, 4), (0, 6), (1, 1)]
    """

    def count(units: Units) -> int:
        return 1 if units == WHOLE else shape[units.row_axis] // units.row_groups

    def is_part(fine: Units, coarse: Units) -> bool:
        in_rows = fine != coarse and coarse.row_groups % fine.row_groups == 0
        return in_rows and fine.row_axis == coarse.row_axis

    finer = [other for other in possible_units(shape) if count(other) > count(units)]
    return [fine for fine in finer if not any(is_part(fine, coarse) for coarse in finer)]


def rescaled(weight: Tensor, units: Units, generator: torch.Generator) -> Tensor:
    """The weight with every unit times a random factor in [0.5, 0.71] or [1.41, 2]."""
    rows = rows_of(weight, units)
    shape, on_cpu = (2, rows.units if rows else 1), {"dtype": torch.float64, "device": "cpu"}
    draws = torch.rand(shape, generator=generator, **on_cpu)
    factors = torch.where(draws[0] < 0.5, 0.5, -0.5) * (1 + draws[1])
    result = weight.clone()
    factors = torch.exp2(factors).to(as_real(result))
    as_real(result).mul_(rows.spread(factors) if rows else factors.view(()))
    return result


def shifted(weight: Tensor, distance: float, generator: torch.Generator) -> Tensor:
    """The weight, moved by `distance` in a random direction."""
    result = weight.clone()
    noise = normal_like(as_real(result), generator)
    as_real(result).add_(noise * (distance / noise.norm().clamp_min(1e-300)))
    return result


def ask_gate(
    probe: Probe, batches: list[Any]
) -> tuple[dict[str, list[Decision]], dict[str, Evidence]]:
    """The published gate's decision about each weight on each batch, and the evidence."""
    decisions: dict[str, list[Decision]] = {name: [] for name in probe.params}
    float32 = lambda x: widened(x.detach(), torch.float32)
    evidence = {name: Evidence(float32(param)) for name, param in probe.params.items()}
    for number, batch in enumerate(batches):
        try:
            grads = probe.gradients(batch, number)
        except Exception as error:
            error.add_note(f"This is batch {number}, a {type(batch).__name__}.")
            raise
        for name, param in probe.params.items():
            grad = grads.get(name)
            decisions[name].append(gate_decision(param.detach(), grad, probe.gate_axis))
            evidence[name].add(None if grad is None else float32(grad))
    return decisions, evidence


def gate_decision(
    param: Tensor, grad: Tensor | None, row_axis: int = 0, delta: float = maths.DELTA
) -> Decision:
    """What the published gate projects after one gradient.

    >>> gate_decision(torch.eye(2), 1 - torch.eye(2)), gate_decision(torch.eye(2), torch.eye(2))
    ('row', 'off')
    """
    rows = rows_of(param, Units("auto", row_axis))
    if rows is None or grad is None:
        return "off"
    w, g = widen(param), widen(grad)
    gw = rows.dot(g, w)
    gate = maths.gate(
        torch,
        maths.Moments(rows.dot(w, w), rows.dot(g, g), gw, gw),
        ordered_sum,
        unit_size=rows.unit_size,
        size=rows.size,
        projection="auto",
        delta=delta,
        eps=maths.EPS,
    )
    return "row" if gate.row.any() else "weight" if gate.weight.any() else "off"
