"""Where a monitor's logs go: CSV, Parquet, TensorBoard, W&B, a list.

A sink is any callable (values, step). What these have besides: `weights`, whether they take a line
for every weight, and `close()`, which `Monitor.close` calls.

- A run that goes on, goes on in its file. The first log says where: lines of its step and later
  ones are dropped before it is written, they come again. A file with no earlier step is another
  run's; it is kept under another name ("run.1.csv"), with a warning.
- A log that cannot be written, on a full disk say, raises OSError out of `optimizer.step()` when
  the step is complete. The log is kept and written with the next one: who catches the error can
  train on, and loses neither step nor log.
- Two monitors that are open at once need a sink each: in one file their lines would mix. The
  second one warns.
- Of several processes one should have the sinks: a file is one process's.
"""

from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tangential.monitor.columns import Values
from tangential.monitor.given_sinks import Wandb, step_number, wandb_run
from tangential.monitor.lines import Line, long
from tangential.monitor.writers import Csv, Parquet

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def csv(path: str | Path, weights: bool = True) -> Csv:
    """A CSV file in long form: a line for every step and label, as pandas reads it.

    Every log is in the file when the step ends. A cell is empty where a value is undefined or was
    not logged, and "nan" where it comes from a weight or gradient that is not finite. A label that
    begins with =, +, - or @, a formula to spreadsheets, is written with an apostrophe before it;
    Tangential removes it when it reads the file.

    Args:
        path: File; its folder is made. One that is there is gone on with.
        weights: Take a line for every weight.

    Raises:
        ValueError: the file is no monitor's, or has other columns, or is a folder.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     csv(Path(folder, "run.csv"))({"all/norm": 2.0}, 0)
    ...     print(Path(folder, "run.csv").read_text().splitlines()[1][:10])
    0,all,2.0,
    """
    return Csv(Path(path), weights)


def parquet(path: str | Path, weights: bool = True, *, flush_every: int = 20) -> Parquet:
    """A folder of Parquet files that pyarrow and pandas read as one data set, columns as in `csv`.

    Each file is written aside and renamed, so that the folder can be read at any time. Logs not yet
    flushed are lost if the process is killed, not if it ends by an exception.

    Args:
        path: Folder; it is made. One that is there is gone on with.
        weights: Take a line for every weight.
        flush_every: Logs to a file, >= 1.

    Raises:
        ValueError: `flush_every` is no positive integer, or the folder has other files.
        ModuleNotFoundError: pyarrow is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sink = parquet(folder)
    ...     sink({"all/norm": 2.0}, 0)
    ...     sink.close()
    ...     [file.name for file in Path(folder).iterdir()]
    ['part-000000.parquet']
    """
    if not isinstance(flush_every, Integral) or flush_every < 1:
        raise ValueError(f"flush_every is {flush_every!r}, allowed is an integer of 1 or more")
    return Parquet(Path(path), weights, int(flush_every))


def tensorboard(to: "str | Path | SummaryWriter", weights: bool = False) -> "TensorBoard":
    """TensorBoard's scalars, "label/column" each; NaN is left out.

    Args:
        to: A folder, or a SummaryWriter, which stays its owner's to close.
        weights: Take scalars for every weight.

    Raises:
        ModuleNotFoundError: a folder, and tensorboard is not installed.

    >>> class Writer:  # stands for torch.utils.tensorboard.SummaryWriter
    ...     def add_scalar(self, *scalar):
    ...         print(*scalar)
    ...     def flush(self):
    ...         pass
    >>> tensorboard(Writer())({"all/norm": 2.0, "all/equilibrium_rad": float("nan")}, 7)
    all/norm 2.0 7
    """
    return TensorBoard(to, weights)


def wandb(run: Any, weights: bool = False) -> Wandb:
    """A W&B run's metrics "tangential/label/column" over a step of their own, "tangential/step".

    The loop may log to the run as often as it likes, with or without a step: neither its values nor
    the monitor's are dropped. Values come with the next row that the loop logs.

    Args:
        run: What `wandb.init` returns.
        weights: Take metrics for every weight.

    Raises:
        ValueError: `run` is no run.
    """
    if wandb_run(run) is None:
        raise ValueError(f"run must be a W&B run, got {run!r:.80}: call wandb.init() first")
    return Wandb(run, weights)


def memory(weights: bool = True) -> "Memory":
    """A list that grows by a dictionary for every step and label; `diagnose` and pandas take it.

    Args:
        weights: Take a line for every weight.

    >>> log = memory()
    >>> log({"all/norm": 2.0}, 0)
    >>> log
    [{'step': 0, 'label': 'all', 'norm': 2.0}]
    """
    return Memory(weights)


class Memory(list[Line]):
    """See `memory`."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.weights = weights

    def __call__(self, values: Values, step: int) -> None:
        """Take a log."""
        self += long(values, step)

    def close(self) -> None:
        """Nothing is open."""


class TensorBoard:
    """See `tensorboard`."""

    def __init__(self, to: "str | Path | SummaryWriter", weights: bool) -> None:
        self.weights = weights
        self.folder = Path(to) if isinstance(to, (str, Path)) else None
        self.writer: Any = None if self.folder else to
        if self.folder:
            _summary_writer()

    def __call__(self, values: Values, step: int) -> None:
        """Take a log."""
        step = step_number(step)
        if self.writer is None:  # its viewer then hides what an earlier run has from here on
            self.writer = _summary_writer()(str(self.folder), purge_step=step)
        for name, value in values.items():
            if value == value:
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the writer, where it was made here; a later log opens another."""
        if self.folder and self.writer is not None:
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
