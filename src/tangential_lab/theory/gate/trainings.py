"""What the gate does with the weight of an example during a training with AdamP."""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tangential import AdamP, audit, maths, param_groups
from tangential.backends import Units, rows_of
from tangential.invariance import gate_decision, units_in_words
from tangential_lab.theory.claims import check_choice
from tangential_lab.theory.gate.chance import DELTAS
from tangential_lab.theory.gate.modules import CLASSES, EXAMPLES, Example

STEPS, LR, SAMPLES, AUDITED = 60, 1e-3, 16, 3

Batch = tuple[Tensor, Tensor]


class Treatment(NamedTuple):
    """What happened to a weight during a training.

    `radial` is the mean of |cos(w, step)| over all steps and scale-invariant units. A radial step
    changes a norm and no direction. It is NaN for a weight that has no such units.
    """

    by_row: float  # share of the steps in which the gate projects every row
    by_weight: float  # share of the steps in which it projects the weight as a whole
    radial: float


class Examined(NamedTuple):
    """An example, the units that the audit proves to be scale-invariant, and the trainings."""

    name: str
    units: Units  # `projection` is "off" if the weight is not scale-invariant
    by_delta: dict[float, Treatment]  # AdamP with the published gate, by its threshold
    radial_with_units: float  # AdamP with `param_groups` from the audit, which needs no gate

    @property
    def in_words(self) -> str:
        """How the weight is scale-invariant: "by row of axis 1", "not scale-invariant"."""
        if self.units.projection == "off":
            return "not scale-invariant"
        return units_in_words(self.units)


def examine(name: str, deltas: Iterable[float] = DELTAS, steps: int = STEPS) -> Examined:
    """Train an example with AdamP once per delta, and once with the units that the audit finds.

    All trainings start from the same weights and see the same batches. They compute in float64,
    because rounding in float32 would hide a small radial part.

    Raises:
        ValueError: `name` is not a key of EXAMPLES, or `steps` is less than 3.

    >>> examined = examine("Conv2d, BatchNorm", [0.1], steps=3)
    >>> examined.units.projection, examined.by_delta[0.1].by_row
    ('row', 1.0)
    """
    check_choice("name", name, EXAMPLES)
    if steps < AUDITED:
        raise ValueError(f"steps must be an integer >= {AUDITED}, got {steps}")
    example = EXAMPLES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = example.build().double()
        batches = _batches(example, steps)
        model(batches[0][0])  # the lazy layer takes its size from a batch
    start = {key: value.clone() for key, value in model.state_dict().items()}
    audited = audit(model, [x for x, _ in batches[:AUDITED]])
    units = audited[example.weight].units

    def trained(params: Any, delta: float) -> Treatment:
        model.load_state_dict(start)
        optimizer = AdamP(params, lr=LR, delta=delta)
        return _train(model, example.weight, optimizer, batches, units)

    by_delta = {delta: trained(model.parameters(), delta) for delta in deltas}
    with_units = trained(param_groups(model, audited), maths.DELTA)
    return Examined(name, units, by_delta, with_units.radial)


def _batches(example: Example, steps: int) -> list[Batch]:
    """Noise [samples, *size] around one random pattern per class, and the classes [samples]."""
    patterns = torch.randn(CLASSES, *example.size, dtype=torch.float64)
    batches = []
    for _ in range(steps):
        classes = torch.randint(CLASSES, (SAMPLES,))
        noise = torch.randn(SAMPLES, *example.size, dtype=torch.float64)
        batches.append((example.scale * (patterns[classes] + noise), classes))
    return batches


def _train(
    model: nn.Module, name: str, optimizer: AdamP, batches: list[Batch], units: Units
) -> Treatment:
    weight, delta = model.get_parameter(name), optimizer.defaults["delta"]
    decisions, radial = [], []
    for inputs, classes in batches:
        optimizer.zero_grad()
        cross_entropy(model(inputs), classes).backward()
        assert weight.grad is not None
        before = weight.detach().clone()
        decisions.append(gate_decision(before, weight.grad, delta=delta))
        optimizer.step()
        radial.append(radial_share(before, weight.detach() - before, units))
    by_row, by_weight = (decisions.count(choice) / len(decisions) for choice in ("row", "weight"))
    return Treatment(by_row, by_weight, fmean(radial))


def radial_share(weight: Tensor, step: Tensor, units: Units) -> float:
    """The mean of |cos(w, step)| over the units; NaN if there are none.

    >>> radial_share(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), Units("row"))
    0.5
    """
    rows = rows_of(weight, units)
    if rows is None:
        return math.nan
    squares = rows.dot(weight, weight) * rows.dot(step, step)
    return float((rows.dot(weight, step).abs() / squares.sqrt()).mean())
