"""The records of a step: a group's options, its weights, and batches of weights."""

from typing import Any, Literal, NamedTuple

from torch import Tensor

from tangential.backends.rows import Rows, rows_of
from tangential.units import Units

Rule = Literal["adam", "sgd"]
LowPrecision = Literal["stochastic", "kahan"]
State = dict[str, Tensor]
Tensors = list[Tensor]


class StepOptions(NamedTuple):
    """The checked options of a parameter group. Numbers are floats; a tensor lr [] stays a tensor.

    Attributes:
        decay: Decoupled weight decay per unit of lr.
        wide_moments: Whether moments are kept in at least float32.
        capturable: Whether counts of steps are on the device, and a step does not read them.
        betas: For Adam only; `momentum`, `dampening` and `project_buffer` are for SGD only.
    """

    rule: Rule
    lr: float | Tensor
    eps: float
    decay: float
    wd_ratio: float
    delta: float
    nesterov: bool
    maximize: bool
    caution: bool
    units: Units
    low_precision: LowPrecision | None
    wide_moments: bool
    foreach: bool | None
    fused: bool | None
    capturable: bool = False
    betas: tuple[float, float] = (0.0, 0.0)
    momentum: float = 0.0
    dampening: float = 0.0
    project_buffer: bool = False

    @property
    def beta(self) -> float:
        """The decay rate of the momentum."""
        return self.betas[0] if self.rule == "adam" else self.momentum


class Scaling(NamedTuple):
    """What GradScaler has set: its factor of the gradients, and whether to skip this step."""

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    @property
    def skips(self) -> bool:
        """Whether to skip this step; this waits for the device."""
        return self.found_inf is not None and bool(float(self.found_inf))

    @property
    def unscale(self) -> float:
        """The factor that restores the gradients; this waits for the device."""
        return 1.0 if self.grad_scale is None else 1 / float(self.grad_scale)


class WeightState(NamedTuple):
    """A weight with its optimizer state and its units.

    Attributes:
        param: As the optimizer has it; it may be a DTensor.
        state: Its optimizer state; it may be empty if the weight has no gradient.
        rows: Its units; None if it is never projected.
        position: Its index in the optimizer, which is a seed of stochastic rounding.
    """

    param: Tensor
    state: State
    rows: Rows | None
    position: int

    @property
    def has_grad(self) -> bool:
        """Whether it has a gradient."""
        return self.param.grad is not None

    @classmethod
    def of(
        cls, param: Tensor, position: int, units: Units, states: dict[Tensor, State]
    ) -> "WeightState":
        """A weight with the state that the optimizer has now."""
        return cls(param, states.get(param, {}), rows_of(param, units), position)


class Batch(NamedTuple):
    """Weights that are processed together.

    `states`, `gs` and `us` (gradients and updates) are those of the `active` weights.
    """

    weights: list[WeightState]
    options: StepOptions
    shards: Tensors  # this process's part of every weight
    ws: Tensors  # `shards`, in at least float32
    active: list[int]  # the weights that have a gradient
    states: list[State]  # this process's part of their states
    gs: Tensors
    us: Tensors

    def of_active(self, xs: list[Any]) -> list[Any]:
        """Select the active weights' entries from a list with one entry per weight."""
        return [xs[i] for i in self.active]

    def of_all(self, xs: Tensors) -> list[Tensor | None]:
        """A list with one entry per weight, None where the weight does not move."""
        entries: list[Tensor | None] = [None] * len(self.weights)
        for i, x in zip(self.active, xs, strict=True):
            entries[i] = x
        return entries
