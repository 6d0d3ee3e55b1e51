"""The monitor as a callback of Lightning's Trainer."""

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tangential.invariance import Audit
from tangential.monitor import Monitors, Sink, finite_only

if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    # Lightning has two package names with separate classes: use the package that is loaded.
    NAMES = ("lightning.pytorch", "pytorch_lightning")
    installed = [name for name in NAMES if find_spec(name.partition(".")[0])]
    if not installed:
        raise ModuleNotFoundError("LightningMonitor needs Lightning: pip install lightning")
    loaded = [name for name in NAMES if sys.modules.get(name)] or installed[:1]
    Callback = type("Callback", tuple(import_module(name).Callback for name in loaded), {})

STEPS = "tangential_monitor_steps"  # key in a checkpoint


class LightningMonitor(Callback):
    """Watches every optimizer of a Lightning Trainer and logs to the Trainer's loggers.

    `Trainer(callbacks=[LightningMonitor(every=100)])`. The step number is `trainer.global_step`.
    With several optimizers it counts the steps of all, and labels begin with the optimizer's class:
    "AdamP/all/norm", "AdamP-1/all/norm". A resumed run continues its counts. The sinks are closed
    when the fit ends or fails.

    Args:
        every: Steps of each optimizer from one log to the next, >= 1; the first step is logged.
        sinks: Further sinks, besides the Trainer's loggers; called in the first process.
        weights: Log values for every weight; a sink's attribute `weights` overrides it.
        audit: As in `tangential.Monitor`.
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
        """Reset the step counts when a new run begins; a checkpoint is loaded after this."""
        if stage == "fit" and not trainer.global_step:
            self.monitors.steps_before = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach the monitors; a checkpoint has been loaded."""
        loggers = [finite_only(logger.log_metrics) for logger in trainer.loggers]
        sinks = [*self.monitors.sinks, *loggers] if trainer.is_global_zero else []
        before = self.monitors.steps_before
        now = lambda: trainer.global_step
        self.monitors.attach(pl_module, trainer.optimizers, before, sinks, now)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Detach the monitors, and close the sinks."""
        self.monitors.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Detach the monitors, and close the sinks."""
        self.monitors.close()

    # Not `state_dict`: a Trainer saves one per class, but several monitors may watch a run.

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Save how many steps the optimizers have taken."""
        checkpoint[STEPS] = self.monitors.steps()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Load how many steps the optimizers have taken."""
        self.monitors.steps_before = checkpoint.get(STEPS, [])
