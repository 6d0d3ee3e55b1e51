"""The base class of AdamP and SGDP, a torch.optim.Optimizer. `stepper.Stepper` takes the steps."""

import warnings
from collections.abc import Callable
from functools import cache, wraps
from threading import RLock
from typing import Any

import torch
from torch import Tensor, autograd
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
    required,
)

from tangential.backends import Rule, State, StepOptions, Watch, native, rows_of, triton
from tangential.optim import flattened, options
from tangential.optim.checkpoints import adopt
from tangential.optim.checks import check_kernel
from tangential.optim.options import Group
from tangential.optim.stepper import Stepper, moment_dtype
from tangential.optim.traced import Traced


class Projected(Optimizer):
    """The base of AdamP and SGDP."""

    rule: Rule
    buffers: tuple[str, ...]
    watch: Watch | None = None  # if set, called with the sums that the gate used
    _has_all_groups = True

    def __init__(self, params: ParamsT, defaults: Group) -> None:
        self._stepper = Stepper()
        self._lock = RLock()  # one thread steps at a time
        self._has_all_groups = False
        super().__init__(params, options.storable(defaults))
        self._has_all_groups = True
        self._traced = Traced(self)
        flattened.check(self.param_groups)
        by_default = [g for g in self.param_groups if g["fused"] is None and g["foreach"] is None]
        if not native.kernel and any(map(_on_cpu, by_default)):
            _warn_of_missing_kernel()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._stepper = Stepper()
        self.__dict__.setdefault("_lock", RLock())
        self._traced = Traced(self)
        for group in self.param_groups:
            for name in options.ALLOWED.keys() & self.defaults.keys():
                group.setdefault(name, self.defaults[name])

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Tells GradScaler, as torch does with `fused=True`, that `step` unscales and skips.

        Trainers then refuse to clip gradients, so this needs an explicit `fused=True`.
        """
        return all(group["fused"] is True and _can_fuse(group) for group in self.param_groups)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group as torch.optim does; options left out take the defaults.

        Raises:
            ValueError: an option is out of range, or asks for rows that a weight does not have.
            RuntimeError: `fused` is True, but the kernel for the device of the weights is missing.
        """
        if not isinstance(param_group["params"], (Tensor, set)):
            param_group["params"] = list(param_group["params"])  # it may be a generator
        options.check_new(param_group, self.defaults)
        group = {**self.defaults, **param_group}
        if group["lr"] is not required:  # else torch.optim says that it is missing
            tensors = _tensors(param_group["params"])
            options.check_rows(group, tensors)
            if "projection" in param_group:
                flattened.check_group({**group, "params": tensors})
            if self._has_all_groups:
                flattened.check([*self.param_groups, {**group, "params": tensors}])
        check_kernel(group["fused"], _tensors(param_group["params"]))
        super().add_param_group(options.storable(param_group))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state_dict of this class, PyPI's adamp, timm, pytorch_optimizer or torch.optim.

        AdamP continues from Adam and AdamW, SGDP from SGD. Options that the saved groups lack keep
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

        with self._lock:  # no other thread steps meanwhile
            handle = self.register_load_state_dict_pre_hook(hook)
            try:
                super().load_state_dict(state_dict)
            finally:
                handle.remove()
            for group, saved in zip(self.param_groups, adopted["param_groups"], strict=True):
                for param, index in zip(group["params"], saved["params"], strict=True):
                    if group["state_dtype"] is not None:
                        self._restore_wide(param, adopted["state"].get(index, {}))

    def _restore_wide(self, param: Tensor, saved: State) -> None:
        """Restore the moments of `state_dtype`: torch has rounded them to the weight's dtype."""
        dtype = moment_dtype(param, wide=True)
        for name in self.buffers if dtype != param.dtype else ():
            if name in saved:
                self.state[param][name] = saved[name].to(param.device, dtype)

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
        if torch.compiler.is_compiling():
            self._traced.step()
        else:
            self._take_step()
        return loss

    def _take_step(self) -> None:
        was_enabled = torch.is_grad_enabled()
        with self._lock:
            torch.set_grad_enabled(False)  # torch.no_grad takes several times as long
            try:
                self._stepper.step(self)
            finally:
                self._stepper.release()
                torch.set_grad_enabled(was_enabled)

    def _patch_step_function(self) -> None:
        """Let torch wrap `step` for profilers and hooks, but call the wrapper only if needed.

        For a small weight, it takes longer than the step.
        """
        before: Any = type(self).step
        super()._patch_step_function()
        if type(self).step is not before:
            type(self).step = _wrapped_if_needed(type(self).step)

    def resolved(self, group: Group) -> StepOptions:
        """The options of one of the groups, checked, as a step takes them."""
        return options.resolved(self.rule, group)

    def judges(self, param: Tensor, group: Group) -> bool:
        """Whether the gate decides about a weight, so that `watch` is called with its sums."""
        return not group["caution"] and rows_of(param, options.units_of(group)) is not None


def _tensors(params: Any) -> list[Tensor]:
    """The weights in a group's `params`; torch.optim checks all other objects."""
    params = [params] if isinstance(params, Tensor) else params
    params = [p[1] if isinstance(p, tuple) else p for p in params]
    return [p for p in params if isinstance(p, Tensor) and not is_lazy(p)]


def _can_fuse(group: Group) -> bool:
    """Whether a kernel steps the weights of a group: the compiled one, or Triton's."""
    return _on_cpu(group) or all(triton.runs_on(param.device) for param in group["params"])


def _on_cpu(group: Group) -> bool:
    return all(param.is_cpu for param in group["params"])


def _wrapped_if_needed(wrapper: Any) -> Any:
    """`step` in torch's wrapper, if a profiler or a hook needs that, else without it."""

    @wraps(wrapper)  # also copies `hooked`, so torch does not wrap it again
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        is_needed = (
            args  # a closure, which may add hooks
            or kwargs
            or torch.compiler.is_compiling()
            or autograd.profiler._is_profiler_enabled
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
        )
        return (wrapper if is_needed else wrapper.__wrapped__)(self, *args, **kwargs)

    return step


@cache
def _warn_of_missing_kernel() -> None:  # once
    message = f"{native.reason()}. Until then the optimizers run on foreach, which is slower"
    warnings.warn(message, stacklevel=4)
