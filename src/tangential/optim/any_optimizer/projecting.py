"""`project`: the steps of any torch optimizer, projected."""

from typing import Any, TypeVar

from torch.optim import LBFGS, SparseAdam
from torch.optim.optimizer import Optimizer

from tangential.backends import Projection, rows_of
from tangential.functional import Amendment
from tangential.maths import DELTA, EPS
from tangential.optim import flattened, options
from tangential.optim.any_optimizer.hooks import NAMES, Projector, projector_of
from tangential.optim.checks import check_kernel
from tangential.optim.options import Group, WdRatio
from tangential.radial import Rule, rule_of

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)


def project(
    optimizer: AnyOptimizer,
    *,
    weight_decay: float = 0,
    delta: float = DELTA,
    wd_ratio: WdRatio = 0.1,
    eps: float = EPS,
    row_axis: int = 0,
    row_groups: int = 1,
    projection: Projection = "auto",
    radial: Rule | str = "remove",
    latch: int = 0,
    fused: bool | None = None,
) -> AnyOptimizer:
    """Project the steps of any torch optimizer, which keeps its class, state and checkpoints.

    Where the gate fires, w <- (1 - lr wd wd_ratio) w + e - (e.w) w / (|w| + eps)^2, where e is what
    the optimizer adds to w; elsewhere w <- (1 - lr wd) w + e. So `project(Adam(...))` is AdamP and
    `project(SGD(...))` is SGDP. docs/project.md lists optimizers, docs/radial_rules.md rules.

    Options from `delta` to `projection` are those of `AdamP`. Parameter groups may have their own,
    such as the groups of `param_groups(model, audit)`; there, two have the names
    `project_weight_decay` and `project_eps`.

    Args:
        optimizer: It gets hooks, and may not decay weights by itself.
        weight_decay: Decoupled decay per unit of lr; for SGD divided by (1 - momentum), as in SGDP.
        delta: Threshold of the gate.
        wd_ratio: Share of the decay where the gate fires, or "matched".
        eps: Floor of the norms.
        row_axis: Axis along which the rows lie.
        row_groups: Consecutive rows that form one unit.
        projection: "auto" is the published gate.
        radial: A rule of `tangential.radial`, or its name: what happens to the radial part of e.
        latch: After so many steps, the gate always decides as at most of them; 0 for never.
        fused: Copy, sum and amend weights whose rows are contiguous by a kernel: on the CPU unless
            False, on a GPU (Triton) only if True. Others go to torch's multi-tensor functions.

    Returns:
        `optimizer` itself.

    Raises:
        TypeError: the optimizer cannot be projected.
        ValueError: names the option, its value and what is expected.
        RuntimeError: `fused` is True, but the kernel for the device of the weights is missing.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    >>> weight.grad = torch.tensor([[4.0, -3.0]])  # orthogonal to the weight
    >>> project(torch.optim.NAdam([weight], lr=0.1)).step()
    >>> weight.data  # NAdam alone ends at [2.8944, 4.1056]
    tensor([[2.8817, 4.0887]])
    """
    given = {name: value for name, value in locals().items() if name in NAMES}
    if not isinstance(latch, int) or isinstance(latch, bool) or latch < 0:
        raise ValueError(f"latch must be an integer >= 0, got {latch!r:.200}")
    options.check({"fused": fused})
    _check_class(optimizer)
    projector = Projector(rule_of(radial), latch, fused)
    defaults = options.storable({NAMES[name]: value for name, value in given.items()})
    groups = [{**defaults, **group} for group in optimizer.param_groups]
    for group in groups:
        amendment = projector.amendment(optimizer, group)
        for param in group["params"]:
            rows_of(param, amendment.units)
        check_kernel(fused, group["params"])
    flattened.check(groups)
    optimizer.defaults.update(defaults)
    for group, complete in zip(optimizer.param_groups, groups, strict=True):
        group.update(complete)
    projector.install(optimizer)
    return optimizer


def amendment_of(optimizer: Optimizer, group: Group) -> Amendment | None:
    """How the steps of a group are amended; None if the optimizer was not projected."""
    projector = projector_of(optimizer)
    return projector and projector.amendment(optimizer, group)


def _check_class(optimizer: Any) -> None:
    """Raise a TypeError if an optimizer cannot be projected."""
    reason = None
    if not isinstance(optimizer, Optimizer):
        reason = "it is no torch.optim.Optimizer"
    elif isinstance(optimizer, LBFGS):
        reason = "it moves weights several times per step, each time by another gradient"
    elif isinstance(optimizer, SparseAdam):
        reason = "it needs sparse gradients, which have no rows"
    elif not getattr(type(optimizer).step, "hooked", False):
        reason = "its step runs no hooks; if it wraps another optimizer, project that one"
    elif projector_of(optimizer) or {"delta", "wd_ratio"} <= optimizer.defaults.keys():
        reason = "it projects its steps already"
    if reason:
        raise TypeError(f"{type(optimizer).__name__} cannot be projected: {reason}")
