"""What the optimizers share: checks, states and the way to a backend; all but rule and options."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer, ParamsT, required

from tangential import backends, flattened, maths, options
from tangential.backends import native
from tangential.backends.rounding import narrow
from tangential.backends.rows import Rows, rows_of
from tangential.backends.sharded import Task, run_together, shards_of
from tangential.backends.step import step
from tangential.backends.watched import Watch
from tangential.checkpoints import adopt

Group = dict[str, Any]
State = dict[str, Tensor]


class _Work(NamedTuple):
    """What one step does to a group: its weights that have gradients, checked.

    Where the kernel knows them already, `params` and the rest are those that it leaves.
    """

    group: Group
    params: list[Tensor]
    rows: list[Rows | None]
    places: list[int]  # in the optimizer
    fused: native.Fused | None


class Projected(Optimizer):
    """The base of AdamP and SGDP."""

    rule: str
    buffers: tuple[str, ...]
    watch: Watch | None = None  # is told what the gate saw, as long as it is set
    _has_all_groups = True

    def __init__(self, params: ParamsT, defaults: Group) -> None:
        self._fused: dict[int, native.Fused] = {}
        self._shards: dict[int, list[tuple[int, Tensor]]] = {}
        self._has_all_groups = False
        super().__init__(params, defaults)
        self._has_all_groups = True
        flattened.check(self.param_groups)
        if not native.kernel and any(_by_default(g) and _on_cpu(g) for g in self.param_groups):
            _tell_of_missing_kernel()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._fused, self._shards = {}, {}
        for group in self.param_groups:
            for name in options.ALLOWED.keys() & self.defaults.keys():
                group.setdefault(name, self.defaults[name])

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Tells GradScaler that `step` reads `grad_scale` and `found_inf` itself."""
        return all(native.wanted(group) and _on_cpu(group) for group in self.param_groups)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as torch.optim does; options left out take the defaults.

        Raises:
            ValueError: an option is out of range, or asks for rows that a weight does not have.
            RuntimeError: `fused` is True, but the kernel is missing.
        """
        if not isinstance(param_group["params"], (Tensor, set)):
            param_group["params"] = list(param_group["params"])  # it may be a generator
        options.check_names(param_group, self.defaults)
        group = {**self.defaults, **param_group}
        if group["lr"] is not required:  # else torch.optim says that it is missing
            tensors = _tensors(param_group["params"])
            self.checked_rows(group, tensors)
            if "projection" in param_group:
                flattened.check_group({**group, "params": tensors})
            if self._has_all_groups:
                flattened.check([*self.param_groups, {**group, "params": tensors}])
        if group["fused"] and not native.kernel:
            raise RuntimeError(f"fused is True, but {native.reason()}")
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state_dict of this class, of PyPI's adamp, of timm's copies, or of torch.optim.

        AdamP goes on from Adam and AdamW, SGDP from SGD. Options that the saved groups lack keep
        the values this optimizer was built with, and so do `foreach` and `fused`. Buffers are
        copied, not shared.

        Raises:
            ValueError: a buffer is missing or of another shape, or an option out of range;
                nothing has changed then.
        """
        adopted: dict[str, Any] = {}

        def hook(_: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
            adopted.update(adopt(self, saved))
            return adopted

        handle = self.register_load_state_dict_pre_hook(hook)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        for group, saved in zip(self.param_groups, adopted["param_groups"], strict=True):
            for param, index in zip(group["params"], saved["params"], strict=True):
                self._keep_wide(param, adopted["state"].get(index, {}), group)

    def _keep_wide(self, param: Tensor, saved: State, group: Group) -> None:
        """Take buffers of `state_dtype` as saved: torch has rounded them to the weight's dtype."""
        dtype = _state_dtype(param, group)
        for name in self.buffers:
            if name in saved and dtype != param.dtype:
                self.state[param][name] = saved[name].to(param.device, dtype)

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
        work = [self._checked(number) for number in range(len(self.param_groups))]
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and found_inf.item():
            return loss
        tasks = [self._advance(number, one) for number, one in enumerate(work)]
        run_together(task for of_group in tasks for task in of_group)
        return loss

    def _checked(self, number: int) -> _Work:
        """What there is to do for a group; a kernel that finds all as it was has checked it."""
        group = self.param_groups[number]
        _check_lr(group)
        fused = self._fused.get(number)
        if fused is not None and native.wanted(group):
            options.check(group)
            if fused.locate(group, self.state):
                self._check_tensors(fused.left)
                return self._left(number, fused)
        numbered = [(i, p) for i, p in self._numbered(number) if p.grad is not None or _waits(p)]
        params = [p for _, p in numbered]
        flattened.check_step(self.param_groups, group)
        rows = self.checked_rows(group, params)
        self._check_tensors(params)
        return _Work(group, params, rows, [i for i, _ in numbered], None)

    def _numbered(self, number: int) -> list[tuple[int, Tensor]]:
        """The weights of a group with their places in the optimizer."""
        first = sum(len(before["params"]) for before in self.param_groups[:number])
        return list(enumerate(self.param_groups[number]["params"], first))

    def checked_rows(self, group: Group, params: list[Tensor]) -> list[Rows | None]:
        """The rows of every weight, as `rows_of` finds them.

        Raises:
            ValueError: an option of `group` is out of range or does not fit `params`.
        """
        options.check(group)
        return [rows_of(param, group) for param in params]

    def judges(self, param: Tensor, group: Group) -> bool:
        """Whether `watch` is told of a weight when it takes a step."""
        return not group["caution"] and rows_of(param, group) is not None

    def _check_tensors(self, params: list[Tensor]) -> None:
        for param in params:
            if param.grad is not None and param.grad.layout != torch.strided:
                raise RuntimeError(
                    f"{type(self).__name__} does not support sparse gradients: the gradient of a "
                    f"weight of shape {tuple(param.shape)} is {param.grad.layout}"
                )
            state = self.state.get(param, {})
            for name in self.buffers:
                if name in state and state[name].device != param.device:
                    raise ValueError(
                        f"{name} of a weight of shape {tuple(param.shape)} is on "
                        f"{state[name].device}, the weight on {param.device}: "
                        "move the model before its first step"
                    )

    def _advance(self, number: int, work: _Work) -> list[Task]:
        """Take a group's step; return what is left to be run, together with other groups' tasks."""
        group = work.group
        resolved = self._resolved(group)
        scale = getattr(self, "grad_scale", None)
        unscale = 1.0 if scale is None else 1 / scale.item()
        states = [self._state_of(param, group) for param in work.params]
        moving = [i for i, param in enumerate(work.params) if param.grad is not None]
        if work.fused is None and moving and native.wanted(group):
            self._fused[number] = fused = native.Fused(
                self.rule,
                [work.params[i] for i in moving],
                [states[i] for i in moving],
                [work.rows[i] for i in moving],
                [work.places[i] for i in moving],
                group,
            )
            self._shards[number] = [(i, p) for i, p in self._numbered(number) if shards_of(p)]
            fused.locate(group, self.state)
            work = self._left(number, fused)
            states = [self._state_of(param, group) for param in work.params]
        if work.fused is not None:
            work.fused.step(resolved, unscale, self.watch)
        if work.params:
            grads = [p.grad for p in work.params if p.grad is not None]
            if unscale != 1 and grads:
                torch._foreach_mul_(grads, unscale)
            backend = backends.choose(group["foreach"])
            batch = work.params, states, work.rows, work.places
            return step(backend, self.rule, *batch, resolved, self.watch)
        return []

    def _left(self, number: int, fused: native.Fused) -> _Work:
        """What the kernel leaves of a group, in its order, and shards without a gradient."""
        group = self.param_groups[number]
        left = list(zip(fused.left_places, fused.left, fused.left_rows, strict=True))
        absent = [(i, p) for i, p in self._shards[number] if p.grad is None and _waits(p)]
        left += [(i, p, rows_of(p, group)) for i, p in absent]
        left.sort(key=lambda one: one[0])
        params, rows, places = (
            [p for _, p, _ in left],
            [r for _, _, r in left],
            [i for i, *_ in left],
        )
        return _Work(group, params, rows, places, fused)

    def _state_of(self, param: Tensor, group: Group) -> State:
        if param.grad is None:
            return self.state.get(param, {})
        state = self.state[param]
        for name in self._names(param, group):
            if name not in state:
                state[name] = self._new(name, param, group)
        return state

    def _names(self, param: Tensor, group: Group) -> tuple[str, ...]:
        rounding = group["low_precision"] if narrow(param) else None
        counts = self.rule == "adam" or rounding == "stochastic"
        kept = ("compensation",) if rounding == "kahan" else ()
        return (*(("step",) if counts else ()), *self.buffers, *kept)

    def _new(self, name: str, param: Tensor, group: Group) -> Tensor:
        if name == "step":
            return torch.zeros((), dtype=torch.float32)
        dtype = param.dtype if name == "compensation" else _state_dtype(param, group)
        return torch.zeros_like(param, dtype=dtype)

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


def _waits(param: Tensor) -> bool:
    """Whether other processes, which may have a gradient, need the sums of this one's shard."""
    return param.requires_grad and bool(shards_of(param))


def defaults_of(arguments: dict[str, Any]) -> Group:
    """The options among the `locals()` of an optimizer's `__init__`."""
    return {k: v for k, v in arguments.items() if k not in ("self", "params", "__class__")}


def _state_dtype(param: Tensor, group: Group) -> torch.dtype:
    wanted = group["state_dtype"]
    return param.dtype if wanted is None else torch.promote_types(param.dtype, wanted)


def _check_lr(group: Group) -> None:
    lr = group["lr"]
    if isinstance(lr, Tensor) and not lr.is_cpu:
        for param in group["params"]:
            if param.grad is not None and param.device != lr.device:
                raise ValueError(f"lr is on {lr.device}, allowed are cpu and {param.device}")


def _tensors(params: Any) -> list[Tensor]:
    """The weights among what a group's `params` may hold; torch.optim judges the rest."""
    params = [params] if isinstance(params, Tensor) else params
    params = [p[1] if isinstance(p, tuple) else p for p in params]
    return [p for p in params if isinstance(p, Tensor) and not is_lazy(p)]


def _by_default(group: Group) -> bool:
    return group["fused"] is None and group["foreach"] is None


def _on_cpu(group: Group) -> bool:
    return all(param.is_cpu for param in group["params"])


_told = False


def _tell_of_missing_kernel() -> None:
    global _told
    if not _told:
        _told = True
        message = f"{native.reason()}. Until then the optimizers run on foreach, which is slower"
        warnings.warn(message, stacklevel=4)
