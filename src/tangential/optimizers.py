"""AdamP and SGDP: momentum optimizers that do not lengthen scale-invariant weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer, ParamsT, required

from tangential import backends, maths, options
from tangential.backends.rows import Rows, rows_of
from tangential.backends.step import step
from tangential.checkpoints import adopt

Group = dict[str, Any]


class _Projected(Optimizer):
    """What AdamP and SGDP share: all but the rule and its options."""

    rule: str
    buffers: tuple[str, ...]

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as torch.optim does; options left out take the defaults.

        Raises:
            ValueError: an option is out of range, or asks for rows that a weight does not have.
        """
        if not isinstance(param_group["params"], (Tensor, set)):
            param_group["params"] = list(param_group["params"])  # it may be a generator
        options.check_names(param_group, self.defaults)
        group = {**self.defaults, **param_group}
        if group["lr"] is not required:  # else torch.optim says that it is missing
            self.checked_rows(group, _tensors(param_group["params"]))
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state_dict of this class, of PyPI's adamp, of timm's copies, or of torch.optim.

        AdamP goes on from Adam and AdamW, SGDP from SGD. Options that the saved groups lack keep
        the values this optimizer was built with. Buffers are copied, not shared.

        Raises:
            ValueError: a buffer is missing or of another shape, or an option out of range;
                nothing has changed then.
        """
        hook = self.register_load_state_dict_pre_hook(adopt)
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Advance every weight that has a gradient; return what `closure` returned, if given.

        Raises:
            RuntimeError: a gradient is sparse.
            ValueError: an option is out of range, or a buffer or lr lies on another device than
                its weight. Nothing has changed in either case.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = []
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            work.append((group, params, self.checked_rows(group, params)))
            self._check_tensors(group, params)
        for group, params, rows in work:
            if params:
                self._advance(group, params, rows)
        return loss

    def checked_rows(self, group: Group, params: list[Tensor]) -> list[Rows | None]:
        """The rows of every weight, as `rows_of` finds them.

        Raises:
            ValueError: an option of `group` is out of range or does not fit `params`.
        """
        options.check(group)
        return [rows_of(param, group) for param in params]

    def _check_tensors(self, group: Group, params: list[Tensor]) -> None:
        lr = group["lr"]
        for param in params:
            if param.grad is not None and param.grad.layout != torch.strided:
                raise RuntimeError(
                    f"{type(self).__name__} does not support sparse gradients: the gradient of a "
                    f"weight of shape {tuple(param.shape)} is {param.grad.layout}"
                )
            here = (torch.device("cpu"), param.device)
            if isinstance(lr, Tensor) and lr.device not in here:
                raise ValueError(f"lr is on {lr.device}, allowed are cpu and {param.device}")
            state = self.state.get(param, {})
            for name in self.buffers if state else ():
                device = state[name].device
                if device != param.device:
                    raise ValueError(
                        f"{name} of a weight of shape {tuple(param.shape)} is on {device}, the "
                        f"weight on {param.device}: move the model before its first step"
                    )

    def _advance(self, group: Group, params: list[Tensor], rows: list[Rows | None]) -> None:
        states = [self._state_of(param) for param in params]
        backend = backends.choose(group["foreach"])
        step(backend, self.rule, params, states, rows, self._resolved(group))

    def _state_of(self, param: Tensor) -> dict[str, Tensor]:
        state = self.state[param]
        if not state:
            if self.rule == "adam":
                state["step"] = torch.zeros((), dtype=torch.float32)
            state.update({name: torch.zeros_like(param) for name in self.buffers})
        return state

    def _resolved(self, group: Group) -> Group:
        """The options as backends take them: lr 0-D, wd_ratio a number, `decay` per unit of lr."""
        lr, wd_ratio = group["lr"], group["wd_ratio"]
        beta, decay = self._beta_and_decay(group)
        return {
            **group,
            "lr": lr.reshape(()) if isinstance(lr, Tensor) else lr,
            "wd_ratio": maths.matched(beta) if wd_ratio == "matched" else wd_ratio,
            "decay": decay,
        }

    def _beta_and_decay(self, group: Group) -> tuple[float, float]:
        raise NotImplementedError


class AdamP(_Projected):
    """Adam with decoupled decay, whose updates lose their radial part on scale-invariant weights.

    Where the gate fires, w <- (1 - lr wd wd_ratio) w - lr (u - (u.w)w / (|w| + eps)^2), else AdamW.
    Source: Heo et al., "AdamP", ICLR 2021. State per weight: `step`, `exp_avg`, `exp_avg_sq`.

    Args:
        params: Weights, named weights or groups of either; every option but `maximize` and
            `foreach` can be set per group. Complex weights count as pairs of reals.
        lr: Step size, >= 0; a tensor of one element stays one.
        betas: Decay rates of the two moments, in [0, 1).
        eps: Floor of Adam's denominator and of the norms in gate and projection.
        weight_decay: Decoupled decay per unit of lr.
        delta: The gate fires where |cos(weight, gradient)| < delta / sqrt(elements).
        wd_ratio: Share of the decay left where the gate fires, or "matched": (1-b1)/(1+b1),
            with which AdamP turns as fast as AdamW at equilibrium.
        nesterov: Look one step ahead along the first moment.
        maximize: Climb instead.
        foreach: Many weights per operation (True), one after another (False), or the faster.
        row_axis: Axis along which the rows lie; 1 for transposed convolutions.
        row_groups: Consecutive rows that form one unit: a GroupNorm group, a head under QK-norm.
        projection: "auto" is the published gate; "row", "weight" and "off" decide beforehand.
            Only "weight" projects tensors of fewer than two dimensions.
        caution: Drop what disagrees in sign with the tangent gradient, rescale, project again.

    Raises:
        ValueError: names the option, its value and what is allowed.

    >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    >>> weight.grad = torch.tensor([[4.0, -3.0]])  # orthogonal, as scale invariance has it
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
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        delta: float = 0.1,
        wd_ratio: float | str = 0.1,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        row_axis: int = 0,
        row_groups: int = 1,
        projection: str = "auto",
        caution: bool = False,
    ) -> None:
        super().__init__(params, _defaults(locals()))

    def _beta_and_decay(self, group: Group) -> tuple[float, float]:
        return group["betas"][0], group["weight_decay"]


class SGDP(_Projected):
    """SGD with momentum and decoupled decay, projected as `AdamP` is. State: `momentum_buffer`.

    p <- momentum p + (1 - dampening) g from p = 0, so that dampening acts on the first step too,
    unlike torch.optim.SGD. Source: Heo et al., "AdamP", ICLR 2021. Arguments not named here are
    those of `AdamP`.

    Args:
        lr: Step size, >= 0; required, here or in every group.
        momentum: Decay rate of the momentum, in [0, 1).
        dampening: Share of the gradient kept out of the momentum.
        weight_decay: Decoupled decay per unit of lr, divided by (1 - momentum), so that a decay
            tuned for torch's coupled SGD keeps its strength.
        nesterov: Step along g + momentum p.
        wd_ratio: As in `AdamP`; "matched" is (1 - momentum) / (1 + momentum).
        project_buffer: Project the momentum itself, as the published code does without Nesterov;
            no effect with it. Our default follows the paper, which projects the step alone.

    Raises:
        ValueError: names the option, its value and what is allowed.

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
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float | str = 0.1,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        row_axis: int = 0,
        row_groups: int = 1,
        projection: str = "auto",
        caution: bool = False,
        project_buffer: bool = False,
    ) -> None:
        super().__init__(params, _defaults(locals()))

    def _beta_and_decay(self, group: Group) -> tuple[float, float]:
        momentum = group["momentum"]
        return momentum, group["weight_decay"] / (1 - momentum)


def _defaults(arguments: dict[str, Any]) -> Group:
    return {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}


def _tensors(params: Any) -> list[Tensor]:
    """The weights among what a group's `params` may hold; torch.optim judges the rest."""
    params = [params] if isinstance(params, Tensor) else params
    params = [p[1] if isinstance(p, tuple) else p for p in params]
    return [p for p in params if isinstance(p, Tensor) and not is_lazy(p)]
