"""Two proofs of scale invariance, one by derivatives, one by values of the loss."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tangential.invariance.evidence import (
    ROWS,
    TOLERANCE,
    WHOLE,
    Evidence,
    Units,
    Verdict,
    candidates,
    judge,
    rescaled,
    shaken,
)
from tangential.invariance.probe import Probe

Verdicts = dict[str, Verdict]


def euler(probe: Probe, batches: list[Any]) -> Verdicts:
    """What g.w says of every weight, from one backward pass a batch.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, eps=1e-13)).double()
    >>> batches = [torch.randn(8, 4, dtype=torch.float64) for _ in range(2)]
    >>> {name: verdict.kind for name, verdict in euler(Probe(model, None, 0), batches).items()}
    {'0.weight': 'row', '0.bias': 'dead', '1.weight': 'variant', '1.bias': 'variant'}
    """
    evidence = {name: Evidence(param) for name, param in probe.params.items()}
    floor = []
    for number, batch in enumerate(batches):
        grads = probe.gradients(batch, number)
        effects = [one.add(grads.get(name)) for name, one in evidence.items()]
        floor.append(probe.precision.noise * max(effects))
    return {name: judge(one, floor) for name, one in evidence.items()}


def functional(probe: Probe, batch: Any, verdicts: Verdicts, seed: int) -> dict[str, bool]:
    """Whether the loss, weights replaced one at a time, bears out every verdict on one batch.

    Invariant: random factors for the units leave the loss alone, where a random move of the same
    length changes it, and factors for finer units do too. Variant: one factor for the whole weight
    changes it. Dead: factors for all elements do not.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, eps=1e-13)).double()
    >>> batch = torch.randn(8, 4, dtype=torch.float64)
    >>> probe = Probe(model, None, 0)
    >>> set(functional(probe, batch, euler(probe, [batch, 2 * batch**3]), 0).values())
    {True}
    """
    generator = torch.Generator().manual_seed(seed)
    base = probe.value(batch, 0, {})
    unit = max(abs(base) * probe.precision.unchanged, sys.float_info.min)

    def borne_out(name: str) -> bool:
        def change(weight: Tensor) -> float:
            return abs(probe.value(batch, 0, {name: weight}) - base) / unit

        return _borne_out(verdicts[name], probe.params[name].detach(), change, generator)

    return {name: borne_out(name) for name in verdicts}


def _borne_out(
    verdict: Verdict,
    weight: Tensor,
    change: Callable[[Tensor], float],
    generator: torch.Generator,
) -> bool:
    """`change` is that of the loss with another weight, in units of what counts as none."""
    if verdict.kind == "dead":  # no sign is changed, for rows of one element are their signs
        return change(rescaled(weight.reshape(-1, 1), ROWS, generator).view_as(weight)) <= 1
    if not weight.any():
        return change(shaken(weight, 1.0, generator)) > 1
    if verdict.kind == "variant":
        return change(rescaled(weight, WHOLE, generator)) > 1
    other = rescaled(weight, verdict.units, generator)
    usual = change(shaken(weight, (other - weight).norm().item(), generator))
    if usual <= 1 or change(other) > max(1, TOLERANCE * usual):
        return False
    finer = _finer(tuple(weight.shape), verdict.units)
    return all(change(rescaled(weight, units, generator)) > 1 for units in finer)


def _finer(shape: tuple[int, ...], units: Units) -> list[Units]:
    """The coarsest of the ways to split a weight into more units: if none holds, no finer does.

    >>> [(finer.row_axis, finer.row_groups) for finer in _finer((12, 2), WHOLE)]
    [(0, 4), (0, 6), (1, 1)]
    """

    def number(units: Units) -> int:
        return 1 if units == WHOLE else shape[units.row_axis] // units.row_groups

    finer = [other for other in candidates(shape) if number(other) > number(units)]
    return [
        one
        for one in finer
        if not any(
            other.row_axis == one.row_axis
            and other.row_groups > one.row_groups
            and other.row_groups % one.row_groups == 0
            for other in finer
        )
    ]
