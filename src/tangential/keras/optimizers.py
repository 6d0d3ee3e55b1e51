"""AdamP and SGDP for Keras: their arguments and their rules."""

from typing import Any

import keras

from tangential import maths
from tangential.checks import check_numbers
from tangential.functional import bias_corrections
from tangential.keras.arrays import wide, xp
from tangential.keras.projected import Projected
from tangential.maths import DELTA, EPS

WdRatio = float | str


@keras.saving.register_keras_serializable("tangential")
class AdamP(Projected):
    """AdamP, equal to `tangential.AdamP`: Adam with decoupled decay, projected.

    Source: Heo et al., "AdamP", ICLR 2021. State per variable: `momentum`, `velocity`.
    `row_axis`, `row_groups` and `projection` are each one value, or a dictionary from patterns of
    a variable's path (`re.search`) to values; the first that fits counts, else the default.

    Args:
        learning_rate: A number >= 0, a schedule of Keras, or a function without arguments.
        weight_decay: Decoupled decay per unit of the learning rate.
        beta_1: Decay rate of the first moment, in [0, 1).
        beta_2: Decay rate of the second moment, in [0, 1).
        epsilon: Floor of Adam's denominator and of the norms in gate and projection.
        delta: The gate fires where |cos(weight, gradient)| < delta / sqrt(elements).
        wd_ratio: Share of the decay where the gate fires, or "matched": (1-b1)/(1+b1).
        nesterov: Use Nesterov momentum.
        row_axis: Axis along which the rows lie; -1 for kernels, whose outputs are last.
        row_groups: Consecutive rows that form one unit.
        projection: "auto" is the published gate; "row", "weight" and "off" are fixed choices.
        **usual: `clipnorm`, `use_ema`, `gradient_accumulation_steps` and all others that every
            optimizer of Keras has.

    Raises:
        ValueError: names the option, its value and what is expected.

    >>> optimizer = AdamP(0.1)
    >>> kernel = keras.Variable([[3.0], [4.0]])
    >>> optimizer.apply([keras.ops.array([[4.0], [-3.0]])], [kernel])  # orthogonal to the kernel
    >>> keras.ops.convert_to_numpy(kernel).round(3).tolist()  # Keras's AdamW ends at 2.9, 4.1
    [[2.888...], [4.084...]]
    """

    rule_options = ("beta_1", "beta_2")
    buffers = ("momentum", "velocity")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = EPS,
        delta: float = DELTA,
        wd_ratio: WdRatio = 0.1,
        nesterov: bool = False,
        *,
        row_axis: int | dict[str, int] = -1,
        row_groups: int | dict[str, int] = 1,
        projection: str | dict[str, str] = "auto",
        **usual: Any,
    ) -> None:
        check_numbers(below=1, beta_1=beta_1, beta_2=beta_2)
        super().__init__(learning_rate, weight_decay, locals(), **usual)

    @property
    def beta(self) -> float:
        """The decay rate of the momentum."""
        return self.beta_1

    def advanced(self, g: Any, state: list[Any]) -> tuple[Any, ...]:
        """The new moments m and v, and the update."""
        m, v = state
        betas = (self.beta_1, self.beta_2)
        corrections = bias_corrections(xp, wide(self.iterations) + 1, betas)
        rule = {"betas": betas, "eps": self.epsilon, "nesterov": self.nesterov}
        return maths.adam(xp, g, m, v, corrections, **rule)


@keras.saving.register_keras_serializable("tangential")
class SGDP(Projected):
    """SGDP, equal to `tangential.SGDP`: SGD with momentum and decoupled decay, projected.

    The momentum starts at 0, so dampening acts on the first step too. Source: Heo et al., "AdamP",
    ICLR 2021. State per variable: `momentum`. Arguments not named here are those of `AdamP`.

    Args:
        momentum: Decay rate of the momentum, in [0, 1).
        weight_decay: Decoupled decay per unit of the learning rate, divided by (1 - momentum).
        nesterov: Step along g + momentum p.
        dampening: Share of the gradient that is not added to the momentum.

    Raises:
        ValueError: names the option, its value and what is expected.

    >>> optimizer = SGDP(keras.optimizers.schedules.CosineDecay(0.1, 1000), momentum=0.9)
    """

    rule_options = ("momentum", "dampening")
    buffers = ("momentum",)

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        dampening: float = 0.0,
        epsilon: float = EPS,
        delta: float = DELTA,
        wd_ratio: WdRatio = 0.1,
        *,
        row_axis: int | dict[str, int] = -1,
        row_groups: int | dict[str, int] = 1,
        projection: str | dict[str, str] = "auto",
        **usual: Any,
    ) -> None:
        check_numbers(below=1, momentum=momentum, dampening=dampening)
        super().__init__(learning_rate, weight_decay, locals(), **usual)

    @property
    def beta(self) -> float:
        """The decay rate of the momentum."""
        return self.momentum

    @property
    def decay(self) -> float:
        """Decoupled weight decay per unit of the learning rate."""
        return super().decay / (1 - self.momentum)

    def advanced(self, g: Any, state: list[Any]) -> tuple[Any, ...]:
        """The new momentum, and the update."""
        [momentum] = state
        rule = {"dampening": self.dampening, "nesterov": self.nesterov}
        return maths.sgd(g, momentum, momentum=self.momentum, **rule)
