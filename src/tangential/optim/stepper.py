"""What the optimizers share: checks, states and the way to a backend; all but rule and options."""

import warnings
from collections.abc import Callable
from functools import cache
from threading import RLock
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer, ParamsT, required

from tangential import backends, maths
from tangential.backends import native
from tangential.backends.checks import check_capture, check_lr, check_weight
from tangential.backends.rows import Rows, rows_of
from tangential.backends.sharded import Task, run_together, shards_of
from tangential.backends.step import step
from tangential.backends.watched import Watch
from tangential.optim import flattened, options
from tangential.optim.checkpoints import adopt
from tangential.optim.states import completed, moment_dtype

Group = dict[str, Any]
State = dict[str, Tensor]


class _Work(NamedTuple):
    """What one step does to a group: its weights that have gradients, checked.

    Where the kernel knows them already, `params` and the rest are those that it leaves.
    """

    group: Group  # as backends take it
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
        self._alone = RLock()  # one thread steps at a time
        self._shards: dict[int, list[tuple[int, Tensor]]] = {}
        self._has_all_groups = False
        super().__init__(params, options.plain(defaults))
        self._has_all_groups = True
        flattened.check(self.param_groups)
        if not native.kernel and any(_by_default(g) and _on_cpu(g) for g in self.param_groups):
            _tell_of_missing_kernel()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._fused, self._shards = {}, {}
        self.__dict__.setdefault("_alone", RLock())
        for group in self.param_groups:
            for name in options.ALLOWED.keys() & self.defaults.keys():
                group.setdefault(name, self.defaults[name])

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Tells GradScaler, as torch does with `fused=True`, that `step` unscales and skips.

        Trainers then refuse to clip gradients, so it must have been asked for.
        """
        return all(group["fused"] is True and _on_cpu(group) for group in self.param_groups)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as torch.optim does; options left out take the defaults.

        Raises:
            ValueError: an option is out of range, or asks for rows that a weight does not have.
            RuntimeError: `fused` is True, but the kernel is missing.
        """
        if not isinstance(param_group["params"], (Tensor, set)):
            param_group["params"] = list(param_group["params"])  # it may be a generator
        options.check_new(param_group, self.defaults)
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
        super().add_param_group(options.plain(param_group))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state_dict of this class, of PyPI's adamp, of timm's copies, or of torch.optim.

        AdamP goes on from Adam and AdamW, SGDP from SGD. Options that the saved groups lack keep
        the values this optimizer was built with, and so do `foreach` and `fused`. Buffers are
        copied, not shared.

        Raises:
            ValueError: a buffer is missing, of another shape, sparse, or real where its weight is
                complex, or an option is out of range; nothing has changed then.
        """
        adopted: dict[str, Any] = {}

        def hook(_: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
            adopted.update(adopt(self, saved))
            return adopted

        with self._alone:  # no other thread steps meanwhile
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
        dtype = moment_dtype(param, group)
        for name in self.buffers:
            if name in saved and dtype != param.dtype:
                self.state[param][name] = saved[name].to(param.device, dtype)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Advance every weight that has a gradient; return what `closure` returned, if given.

        Raises:
            RuntimeError: a gradient is sparse, a tensor's memory was freed, or a CUDA graph that is
                being captured would freeze the count of steps.
            ValueError: an option is out of range, or a gradient or buffer does not fit its weight.
                Nothing has changed in any of these cases.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling():  # which does not know locks
            self._step()
        else:
            with self._alone:
                try:
                    self._step()
                finally:
                    for fused in self._fused.values():
                        fused.release()
        return loss

    def _step(self) -> None:
        for number in [n for n in self._fused if n >= len(self.param_groups)]:
            self._forget(number)  # it would keep the weights of a group that was removed
        work = [self._checked(number) for number in range(len(self.param_groups))]
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and float(found_inf):
            return
        tasks = [self._advance(number, one) for number, one in enumerate(work)]
        run_together(task for of_group in tasks for task in of_group)

    def _checked(self, number: int) -> _Work:
        """What there is to do for a group; a kernel that finds all as it was has checked it."""
        options.check(self.param_groups[number])
        group = self._resolved(self.param_groups[number])
        check_lr(group["lr"], group["params"])
        fused = self._fused.get(number)
        if fused and native.wanted(group) and fused.locate(group, self.state, self._first(number)):
            self._check_tensors(fused.left, group)
            return self._left(number, group, fused)
        self._forget(number)
        numbered = [(i, p) for i, p in self._numbered(number) if p.grad is not None or _waits(p)]
        params = [p for _, p in numbered]
        flattened.check_step(self.param_groups, group)
        rows = [rows_of(param, options.units_of(group)) for param in params]
        self._check_tensors([p for p in params if p.grad is not None], group)
        return _Work(group, params, rows, [i for i, _ in numbered], None)

    def _forget(self, number: int) -> None:
        self._fused.pop(number, None)
        self._shards.pop(number, None)

    def _first(self, number: int) -> int:
        """The place in the optimizer of a group's first weight."""
        return sum(len(before["params"]) for before in self.param_groups[:number])

    def _numbered(self, number: int) -> list[tuple[int, Tensor]]:
        """The weights of a group with their places in the optimizer."""
        return list(enumerate(self.param_groups[number]["params"], self._first(number)))

    def checked_rows(self, group: Group, params: list[Tensor]) -> list[Rows | None]:
        """The rows of every weight, as `rows_of` finds them.

        Raises:
            ValueError: an option of `group` is out of range or does not fit `params`.
        """
        options.check(group)
        return [rows_of(param, options.units_of(group)) for param in params]

    def judges(self, param: Tensor, group: Group) -> bool:
        """Whether `watch` is told of a weight when it takes a step."""
        return not group["caution"] and rows_of(param, options.units_of(group)) is not None

    def _check_tensors(self, params: list[Tensor], group: Group) -> None:
        owner = type(self).__name__
        if self.rule == "adam" or group["low_precision"] == "stochastic":
            check_capture(params, owner)
        known = ("step", "compensation", *self.buffers)
        for param in params:
            state = self.state.get(param, {})
            check_weight(param, {name: state[name] for name in known if name in state}, owner)

    def _advance(self, number: int, work: _Work) -> list[Task]:
        """Take a group's step; return what is left to be run, together with other groups' tasks."""
        group = work.group
        scale = getattr(self, "grad_scale", None)
        unscale = 1.0 if scale is None else 1 / float(scale)
        states = [self._state_of(param, group) for param in work.params]
        moving = [i for i, param in enumerate(work.params) if param.grad is not None]
        if work.fused is None and moving and native.wanted(group):
            fused = native.Fused(
                self.rule,
                [work.params[i] for i in moving],
                [states[i] for i in moving],
                [work.rows[i] for i in moving],
                [work.places[i] for i in moving],
                group,
                first := self._first(number),
            )
            if fused.locate(group, self.state, first):
                self._fused[number] = fused
                self._shards[number] = [(i, p) for i, p in self._numbered(number) if shards_of(p)]
                work = self._left(number, group, fused)
                states = [self._state_of(param, group) for param in work.params]
        if work.fused is not None:
            work.fused.step(group, unscale, self.watch)
        if work.params:
            grads = [p.grad for p in work.params if p.grad is not None]
            if unscale != 1 and grads:
                torch._foreach_mul_(grads, unscale)
            backend = backends.choose(group["foreach"])
            batch = work.params, states, work.rows, work.places
            return step(backend, self.rule, *batch, group, self.watch)
        return []

    def _left(self, number: int, group: Group, fused: native.Fused) -> _Work:
        """What the kernel leaves of a group, in its order, and shards without a gradient."""
        left = list(zip(fused.left_places, fused.left, fused.left_rows, strict=True))
        absent = [(i, p) for i, p in self._shards[number] if p.grad is None and _waits(p)]
        left += [(i, p, rows_of(p, options.units_of(group))) for i, p in absent]
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
        counts = self.rule == "adam"
        return completed(self.state[param], param, group, self.buffers, counts=counts)

    def _resolved(self, group: Group) -> Group:
        """The options as backends take them: lr 0-D, wd_ratio a number, `decay` per unit of lr."""
        group = options.numbers(group)
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


def _tensors(params: Any) -> list[Tensor]:
    """The weights among what a group's `params` may hold; torch.optim judges the rest."""
    params = [params] if isinstance(params, Tensor) else params
    params = [p[1] if isinstance(p, tuple) else p for p in params]
    return [p for p in params if isinstance(p, Tensor) and not is_lazy(p)]


def _by_default(group: Group) -> bool:
    return group["fused"] is None and group["foreach"] is None


def _on_cpu(group: Group) -> bool:
    return all(param.is_cpu for param in group["params"])


@cache
def _tell_of_missing_kernel() -> None:  # once
    message = f"{native.reason()}. Until then the optimizers run on foreach, which is slower"
    warnings.warn(message, stacklevel=4)
