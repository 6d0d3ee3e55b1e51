"""What flows through a step: a group's options, its weights, and batches of weights."""

from typing import Any, Literal, NamedTuple

from torch import Tensor

from tangential.backends.rows import Rows, Units

Rule = Literal["adam", "sgd"]
LowPrecision = Literal["stochastic", "kahan"]
State = dict[str, Tensor]
Tensors = list[Tensor]


class StepOptions(NamedTuple):
    """The checked options of a parameter group. Numbers are floats; an lr tensor [] stays one.

    Attributes:
        decay: Decoupled weight decay per unit of lr.
        wide_moments: Whether moments are kept in float32 at least.
        betas: Of Adam alone; `momentum`, `dampening` and `project_buffer` are of SGD alone.
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
    betas: tuple[float, float] = (0.0, 0.0)
    momentum: float = 0.0
    dampening: float = 0.0
    project_buffer: bool = False

    @property
    def beta(self) -> float:
        """The decay rate of the momentum."""
        return self.betas[0] if self.rule == "adam" else self.momentum


class WeightState(NamedTuple):
    """A weight and what a step must know about it.

    Attributes:
        param: As the optimizer has it; it may be a DTensor.
        state: Its optimizer state; it may be empty if the weight has no gradient.
        rows: Its units; None if it is never projected.
        place: Its number in the optimizer, by which stochastic rounding tells weights apart.
    """

    param: Tensor
    state: State
    rows: Rows | None
    place: int

    @property
    def moves(self) -> bool:
        """Whether it has a gradient."""
        return self.param.grad is not None

    def with_state_from(self, states: dict[Tensor, State]) -> "WeightState":
        """The same weight with the state that the optimizer has now: it may have been replaced."""
        return self._replace(state=states.get(self.param, {}))


class Batch(NamedTuple):
    """Weights that are worked on together.

    `states`, `gs` and `us` (gradients and updates) are those of the `moving` weights.
    """

    weights: list[WeightState]
    options: StepOptions
    shards: Tensors  # what this process has of every weight
    ws: Tensors  # `shards`, in float32 at least
    moving: list[int]  # the weights that have a gradient
    states: list[State]  # what this process has of them
    gs: Tensors
    us: Tensors

    def of_moving(self, xs: list[Any]) -> list[Any]:
        """The entries of the moving weights, of a list with one entry per weight."""
        return [xs[i] for i in self.moving]

    def of_all(self, xs: Tensors) -> list[Tensor | None]:
        """A list with one entry per weight, None where the weight does not move."""
        entries: list[Tensor | None] = [None] * len(self.weights)
        for i, x in zip(self.moving, xs, strict=True):
            entries[i] = x
        return entries
