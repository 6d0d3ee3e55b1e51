"""Sinks for TensorBoard and Weights & Biases."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tangential.monitor.columns import Values
from tangential.monitor.sinks.rows import step_number

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PREFIX = "tangential/"  # of W&B's metrics, which share a run with the user's own


class TensorBoard:
    """TensorBoard's scalars, named "label/column"; NaN is left out.

    Args:
        to: A folder, or a SummaryWriter, which you must close yourself.
        weights: Also write scalars for every weight.
        rows: Also write histograms "weight/column by row" of the norms, effective steps and
            cosines of the rows of every weight (of its units, if an audit or options name them).
            With DTensors, rows of this process.

    Raises:
        ModuleNotFoundError: `to` is a folder, and tensorboard is not installed.

    >>> class Writer:  # stands for torch.utils.tensorboard.SummaryWriter
    ...     def add_scalar(self, *scalar):
    ...         print(*scalar)
    ...     def flush(self):
    ...         pass
    >>> TensorBoard(Writer())({"all/norm": 2.0, "all/equilibrium_rad": float("nan")}, 7)
    all/norm 2.0 7
    """

    def __init__(
        self, to: "str | Path | SummaryWriter", weights: bool = False, *, rows: bool = False
    ) -> None:
        self.weights, self.log_units = weights, self._histograms if rows else None
        self.path = Path(to) if isinstance(to, (str, Path)) else None
        self.writer: Any = None if self.path else to
        if self.path:
            _summary_writer()

    def __call__(self, values: Values, step: int) -> None:
        """Write all values but NaN."""
        step = self._open_at(step)
        for name, value in values.items():
            if value == value:
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def _histograms(self, units: dict[str, Any], step: int) -> None:
        step = self._open_at(step)
        for name, column in units.items():
            finite = column[column.isfinite()]
            if len(column) > 1 and len(finite):
                self.writer.add_histogram(f"{name} by row", finite, step)

    def _open_at(self, step: int) -> int:
        step = step_number(step)
        if self.writer is None:  # TensorBoard then hides an earlier run's later values
            self.writer = _summary_writer()(str(self.path), purge_step=step)
        return step

    def close(self) -> None:
        """Close the writer if it was created here; a later log creates another."""
        if self.path and self.writer:
            self.writer.close()
            self.writer = None


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "sinks.tensorboard needs tensorboard: run pip install tensorboard", name=error.name
        ) from error
    return SummaryWriter


def wandb_run(sink: Any) -> Any:
    """The W&B run if this is one, or its method `log`; else None."""
    run = getattr(sink, "__self__", None) if getattr(sink, "__name__", "") == "log" else sink
    methods = (getattr(run, name, None) for name in ("define_metric", "log"))
    return run if all(map(callable, methods)) else None


class Wandb:
    """Metrics "tangential/label/column" of a W&B run, with their own step "tangential/step".

    The training loop may log to the run as often as it likes, with or without a step: W&B drops
    neither its values nor the monitor's. The values appear with the loop's next row.

    Args:
        run: The result of `wandb.init`.
        weights: Also log metrics for every weight.

    Raises:
        ValueError: `run` is not a W&B run.
    """

    # W&B drops values of a step below its own, and counts each call of `log` as a step. So values
    # are added to W&B's current row without ending it (`commit=False`), and the monitor's step is a
    # metric. If the user has not logged since the monitor's last log, that row is ended first.

    def __init__(self, run: Any, weights: bool = False) -> None:
        if wandb_run(run) is None:
            raise ValueError(f"run must be a W&B run, got {run!r:.80}: call wandb.init() first")
        self.run, self.weights = wandb_run(run), weights
        self.row: int | None = None  # W&B's step at the last log
        self.run.define_metric(f"{PREFIX}step")
        self.run.define_metric(f"{PREFIX}*", step_metric=f"{PREFIX}step")

    def __call__(self, values: Values, step: int) -> None:
        """Log all values but NaN."""
        step = step_number(step)
        if self.row is not None and self.row == getattr(self.run, "step", None):
            self.run.log({}, commit=True)
        named = {f"{PREFIX}{name}": value for name, value in values.items() if value == value}
        self.run.log({**named, f"{PREFIX}step": step}, commit=False)
        self.row = getattr(self.run, "step", None)
