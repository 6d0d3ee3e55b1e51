"""AdamP and SGDP: momentum optimizers whose steps do not lengthen scale-invariant weights."""

from torch import Tensor
from torch.optim.optimizer import ParamsT, required

from tangential.backends import LowPrecision, Projection
from tangential.maths import DELTA, EPS
from tangential.optim import options
from tangential.optim.options import Betas, StateDtype, WdRatio
from tangential.optim.projected import Projected


class AdamP(Projected):
    """Adam with decoupled decay, whose updates lose their radial part on scale-invariant weights.

    Where the gate fires, w <- (1 - lr wd wd_ratio) w - lr (u - (u.w)w / (|w| + eps)^2), else AdamW.
    Source: Heo et al., "AdamP", ICLR 2021. State per weight: `step`, `exp_avg`, `exp_avg_sq`.

    Args:
        params: Weights, named weights or groups of either; every option can be set per group.
            Complex weights count as pairs of reals.
        lr: Learning rate, >= 0; a tensor of one element stays a tensor.
        betas: Decay rates of the two moments, in [0, 1).
        eps: Floor of Adam's denominator and of the norms in gate and projection.
        weight_decay: Decoupled decay per unit of lr.
        delta: The gate fires where |cos(weight, gradient)| < delta / sqrt(elements).
        wd_ratio: Share of the decay that is applied where the gate fires, or "matched":
            (1-b1)/(1+b1), with which AdamP rotates as fast as AdamW at equilibrium.
        nesterov: Use Nesterov momentum.
        maximize: Maximize the objective instead.
        foreach: Process many weights per operation (True), or one weight at a time (False).
        fused: Use a kernel for weights whose rows are contiguous (True): the compiled one on the
            CPU, Triton's on a GPU (not yet measured on one); or no kernel (False). By default, the
            compiled kernel on the CPU, and foreach for all other weights. With True, GradScaler
            leaves unscaling to the step, as with torch's fused optimizers.
        low_precision: How float16 and bfloat16 weights are rounded: to nearest (None; small steps
            are lost), "stochastic", or "kahan", which keeps what rounding lost in an extra buffer
            `compensation`.
        state_dtype: torch.float32 or "float32" keeps the moments of such weights in float32.
        row_axis: Axis along which the rows lie; 1 for transposed convolutions.
        row_groups: Consecutive rows that form one unit: a GroupNorm group, a head under QK-norm.
        projection: "auto" is the published gate; "row", "weight" and "off" are fixed choices.
            Only "weight" projects tensors of fewer than two dimensions.
        caution: Drop elements of the update whose sign disagrees with the tangent gradient,
            rescale the rest and project again.
        capturable: Keep the count of steps with the weights, so that a CUDA graph can capture the
            step (not yet run on a GPU). A replay follows a tensor lr on the device of the weights;
            the other options keep the values that were captured.

    Raises:
        ValueError: names the option, its value and what is expected.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    >>> weight.grad = torch.tensor([[4.0, -3.0]])  # orthogonal to the weight
    >>> AdamP([weight], lr=0.1).step()
    >>> weight  # AdamW ends at [2.9, 4.1]
    Parameter containing:
    tensor([[2.8880, 4.0840]], requires_grad=True)
    """

    rule = "adam"
    buffers = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = EPS,
        weight_decay: float = 0,
        delta: float = DELTA,
        wd_ratio: WdRatio = 0.1,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        low_precision: LowPrecision | None = None,
        state_dtype: StateDtype | None = None,
        row_axis: int = 0,
        row_groups: int = 1,
        projection: Projection = "auto",
        caution: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, options.among(locals()))


class SGDP(Projected):
    """SGD with momentum and decoupled decay, projected as in `AdamP`. State: `momentum_buffer`.

    p <- momentum p + (1 - dampening) g, and p starts at 0. So dampening acts on the first step too,
    unlike in torch.optim.SGD. Source: Heo et al., "AdamP", ICLR 2021. Arguments not named here are
    those of `AdamP`.

    Args:
        lr: Step size, >= 0; required, here or in every group.
        momentum: Decay rate of the momentum, in [0, 1).
        dampening: Share of the gradient that is not added to the momentum.
        weight_decay: Decoupled decay per unit of lr, divided by (1 - momentum), so that a decay
            tuned for torch's coupled SGD keeps its strength.
        nesterov: Step along g + momentum p.
        wd_ratio: As in `AdamP`; "matched" is (1 - momentum) / (1 + momentum).
        project_buffer: Project the momentum too, as the published code does without Nesterov;
            no effect with Nesterov. The default follows the paper, which projects only the step.

    Raises:
        ValueError: names the option, its value and what is expected.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    >>> optimizer = SGDP([weight], lr=0.1, momentum=0.9)
    """

    rule = "sgd"
    buffers = ("momentum_buffer",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = required,  # pyright: ignore[reportArgumentType]
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        eps: float = EPS,
        delta: float = DELTA,
        wd_ratio: WdRatio = 0.1,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        low_precision: LowPrecision | None = None,
        state_dtype: StateDtype | None = None,
        row_axis: int = 0,
        row_groups: int = 1,
        projection: Projection = "auto",
        caution: bool = False,
        capturable: bool = False,
        project_buffer: bool = False,
    ) -> None:
        super().__init__(params, options.among(locals()))
