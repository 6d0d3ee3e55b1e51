"""What the published gate makes of a model as it is."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential import maths
from tangential.backends import Units, ordered_sum, rows_of, wide
from tangential.invariance.evidence import Evidence
from tangential.invariance.precision import widened
from tangential.invariance.probe import Probe

GATE = Units("auto")


class Published(NamedTuple):
    """The model as it is: the gate's verdict on every weight and batch, and what g.w is there."""

    gates: dict[str, list[str]]
    weights: dict[str, Evidence]


def ask_gate(probe: Probe, batches: list[Any]) -> Published:
    """Ask the published gate about the gradients of every batch."""
    gates: dict[str, list[str]] = {name: [] for name in probe.params}
    weights = {name: Evidence(_wide(param)) for name, param in probe.params.items()}
    for number, batch in enumerate(batches):
        try:
            grads = probe.gradients(batch, number)
        except Exception as error:
            error.add_note(f"This is batch {number}, a {type(batch).__name__}.")
            raise
        for name, param in probe.params.items():
            grad = grads.get(name)
            gates[name].append("off" if grad is None else _gate(param.detach(), grad))
            weights[name].add(None if grad is None else _wide(grad))
    return Published(gates, weights)


def _wide(x: Tensor) -> Tensor:
    return widened(x.detach(), torch.float32)


def _gate(param: Tensor, grad: Tensor) -> str:
    """The published gate's verdict on one gradient.

    >>> _gate(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, -3.0]]))
    'row'
    """
    rows = rows_of(param, GATE)
    if rows is None:
        return "off"
    w, g = wide(param), wide(grad)
    gw = rows.dot(g, w)
    moments = maths.Moments(rows.dot(w, w), rows.dot(g, g), gw, gw)
    gate = maths.gate(
        torch,
        moments,
        ordered_sum,
        fan=rows.fan,
        size=rows.size,
        projection="auto",
        delta=maths.DELTA,
        eps=maths.EPS,
    )
    return "row" if gate.row.any() else "weight" if gate.weight.any() else "off"
