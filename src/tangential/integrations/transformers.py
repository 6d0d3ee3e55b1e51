"""Hugging Face's Trainer: the monitor as a callback, and parameter groups with an audit."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from tangential.invariance import Audit, param_groups
from tangential.monitor import Monitors, Sink, Values, finite_only

if not find_spec("transformers"):
    raise ModuleNotFoundError(
        "TransformersMonitor needs transformers: pip install 'transformers[torch]'"
    )
from torch import nn
from transformers import Trainer, TrainerCallback


def decay_groups(
    model: nn.Module, weight_decay: float, audit: Audit | None = None
) -> list[dict[str, Any]]:
    """Groups with and without weight decay, as Trainer builds them, for the weights that train.

    Args:
        model: The model.
        weight_decay: Decay of all weights but biases and those of normalisations.
        audit: If given, groups also have `projection`, `row_axis` and `row_groups` from it.
    """
    trainer_class: Any = Trainer
    decaying = trainer_class.get_decay_parameter_names(None, model)
    decay = {p: weight_decay if n in decaying else 0.0 for n, p in model.named_parameters()}
    groups = param_groups(model, audit) if audit else [{"params": list(decay)}]
    split = []
    for group in groups:
        trained = [param for param in group["params"] if param.requires_grad]
        for value in sorted({decay[param] for param in trained}, reverse=True):
            params = [param for param in trained if decay[param] == value]
            split.append({**group, "params": params, "weight_decay": value})
    return split


class TransformersMonitor(TrainerCallback):
    """Watches the optimizer of a Hugging Face Trainer and logs by `Trainer.log`.

    So the values reach `state.log_history` and every integration in `report_to`.

        with TransformersMonitor(trainer, every=100):
            trainer.train()

    `trainer.add_callback(TransformersMonitor(trainer))` does the same. But a Trainer does not tell
    its callbacks of exceptions: after one, the monitor stays on the optimizer until `close` or the
    next `train`.

    Args:
        trainer: The `transformers.Trainer`; the arguments of a callback cannot log.
        every: Steps from one log to the next, >= 1; the first step is logged.
        sinks: Further sinks, called in the first process and closed when training ends.
        weights: Log values for every weight; a sink's attribute `weights` overrides it.
        audit: As in `tangential.Monitor`.
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

    def __enter__(self) -> "TransformersMonitor":
        self.trainer.add_callback(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.trainer.remove_callback(self)
        self.close()

    def close(self) -> None:
        """Detach the monitor, and close the sinks that have a `close`."""
        self.monitors.close()

    # Callbacks also receive the model and the optimizer by name; we take those of the Trainer.

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Attach the monitor; a checkpoint has been loaded."""
        optimizer = self.trainer.optimizer
        optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper has no hooks
        sinks = self.monitors.sinks if state.is_world_process_zero else []
        sinks = [*sinks, finite_only(self._log)]
        now = lambda: self.trainer.state.global_step
        self.monitors.attach(self.trainer.model, [optimizer], [now()], sinks, now)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Detach the monitor, and close the sinks."""
        self.close()

    def _log(self, values: Values, step: int) -> None:
        """Log in every process, as the Trainer does: its integrations write in the first."""
        wanted = self.trainer.control.should_log
        self.trainer.log(values)
        self.trainer.control.should_log = wanted  # `log` resets it
