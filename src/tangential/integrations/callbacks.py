"""The monitor in the trainers of Lightning and Hugging Face.

`LightningMonitor` and `TransformersMonitor` are made when they are first asked for, so that neither
library is loaded, or needed, before. Either keeps a `Monitor` on the optimizers of a run from its
first step to its end, and tells under the trainer's own step number, `global_step`, which counts
the steps before the one that is measured. Every process measures, since the sums of a sharded
weight need them all, and the first tells. The trainer's loggers get finite numbers only: of NaN and
infinity, which a run that diverged has, some write files that are not JSON.
"""

import math
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tangential.invariance import Audit
from tangential.monitor.columns import Values
from tangential.monitor.given_sinks import Sink
from tangential.monitor.monitors import Monitors

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")  # one library, two names, own classes each
STEPS = "tangential_monitor_steps"  # in a Lightning checkpoint


class _LightningMonitor:
    """Watches every optimizer of a Lightning Trainer and logs to the Trainer's loggers.

    `Trainer(callbacks=[LightningMonitor(every=100)])`. The step number, `trainer.global_step`, is
    with one optimizer that of what `training_step` logs; of several it counts the steps of all, and
    labels begin with the class: "AdamP/all/norm", "AdamP-1/all/norm". A resumed run goes on. The
    sinks are closed when the fit ends or fails.

    Args:
        every: Steps of each optimizer from one log to the next, >= 1; the first step is logged.
        sinks: Told besides the Trainer's loggers, in the first process.
        weights: Give a line for every weight; a sink's attribute `weights` decides for it.
        audit: As in `tangential.Monitor`.

    Raises:
        ModuleNotFoundError: neither `lightning` nor `pytorch_lightning` is installed.
    """

    def __init__(
        self,
        every: int = 50,
        sinks: Sink | Iterable[Sink] = (),
        *,
        weights: bool = False,
        audit: Audit | None = None,
    ) -> None:
        self.monitors = Monitors(every, sinks, weights, audit)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Forget an earlier run where a new one begins; its checkpoint is loaded after this."""
        if stage == "fit" and not trainer.global_step:
            self.monitors.before = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach the monitors; the checkpoint has been loaded."""
        sinks = [*self.monitors.sinks, *(finite_only(x.log_metrics) for x in trainer.loggers)]
        told = sinks if trainer.is_global_zero else []
        now = lambda: trainer.global_step
        self.monitors.attach(pl_module, trainer.optimizers, self.monitors.before, told, now)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Let the optimizers go, and close the sinks."""
        self.monitors.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Let the optimizers go, and close the sinks."""
        self.monitors.close()

    # Not state_dict, of which a Trainer takes one for each class: several monitors may watch a run.

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Save the steps that the optimizers have taken."""
        checkpoint[STEPS] = self.monitors.steps()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Load the steps that the optimizers have taken."""
        self.monitors.before = checkpoint.get(STEPS, [])


class _TransformersMonitor:
    """Watches the optimizer of a Hugging Face Trainer and logs by `Trainer.log`.

    Values so reach `state.log_history` and every integration in `report_to`.

        with TransformersMonitor(trainer, every=100):
            trainer.train()

    `trainer.add_callback(TransformersMonitor(trainer))` does the same, but since a Trainer tells
    its callbacks of no exception, one lets go of the optimizer at `close` or at the next `train`.

    Args:
        trainer: The `transformers.Trainer`: nothing else that a callback is given can log.
        every: Steps from one log to the next, >= 1; the first step is logged.
        sinks: Told besides the Trainer, in the first process, and closed when training ends.
        weights: Give a line for every weight; a sink's attribute `weights` decides for it.
        audit: As in `tangential.Monitor`.

    Raises:
        ModuleNotFoundError: `transformers` is not installed.
    """

    def __init__(
        self,
        trainer: Any,
        every: int = 50,
        sinks: Sink | Iterable[Sink] = (),
        *,
        weights: bool = False,
        audit: Audit | None = None,
    ) -> None:
        self.trainer, self.monitors = trainer, Monitors(every, sinks, weights, audit)

    def __enter__(self) -> Any:
        self.trainer.add_callback(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.trainer.remove_callback(self)
        self.close()

    def close(self) -> None:
        """Let the optimizer go, and close the sinks that can be closed."""
        self.monitors.close()

    # What else an event is given, by name, the Trainer has too.

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Attach the monitor; a checkpoint has been loaded."""
        optimizer = self.trainer.optimizer
        optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper has no hooks
        own = self.monitors.sinks if state.is_world_process_zero else []
        told = [*own, finite_only(self._log)]
        now = lambda: self.trainer.state.global_step
        self.monitors.attach(self.trainer.model, [optimizer], [now()], told, now)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let the optimizer go, and close the sinks."""
        self.close()

    def _log(self, values: Values, step: int) -> None:
        """Log in every process, as the Trainer does: its integrations write in the first."""
        wanted = self.trainer.control.should_log
        self.trainer.log(values)
        self.trainer.control.should_log = wanted  # `log` takes it for done


def finite_only(sink: Sink) -> Sink:
    """A sink that gets neither NaN nor infinity."""

    def tell(values: Values, step: int) -> None:
        sink({name: value for name, value in values.items() if math.isfinite(value)}, step)

    return tell


@cache
def _callback(mixin: type, *bases: type) -> type:
    name = mixin.__name__.removeprefix("_")
    members = {"__module__": __name__, "__qualname__": name, "__doc__": mixin.__doc__}
    return type(name, (mixin, *bases), members)


def _lightning() -> type:
    """A callback to Lightning under whichever of its names the Trainer may come from."""
    loaded = [name for name in LIGHTNING if sys.modules.get(name)]
    there = [name for name in LIGHTNING if find_spec(name.split(".")[0])]
    if not there:
        raise ModuleNotFoundError("LightningMonitor needs Lightning: pip install lightning")
    modules = [import_module(name) for name in loaded or there[:1]]
    return _callback(_LightningMonitor, *(module.Callback for module in modules))


def _transformers() -> type:
    if not find_spec("transformers"):
        raise ModuleNotFoundError(
            "TransformersMonitor needs transformers: pip install 'transformers[torch]'"
        )
    return _callback(_TransformersMonitor, import_module("transformers").TrainerCallback)


CALLBACKS = {"LightningMonitor": _lightning, "TransformersMonitor": _transformers}

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from transformers import TrainerCallback

    class LightningMonitor(_LightningMonitor, Callback):  # noqa: D101
        pass

    class TransformersMonitor(_TransformersMonitor, TrainerCallback):  # noqa: D101
        pass


def __getattr__(name: str) -> Any:
    if name not in CALLBACKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return CALLBACKS[name]()


__all__ = ["LightningMonitor", "TransformersMonitor"]
