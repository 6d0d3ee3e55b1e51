"""Options of the commands that start a study: of the task, of the optimizers, of the trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tangential_lab import experiments
from tangential_lab.cli.parameters import Many, Processes, Threads
from tangential_lab.training import FAMILIES, Point


@Parameter(name="*")
@dataclass(frozen=True)
class TaskOptions:
    """Options of a task.

    Args:
        preset: mini (minutes on one core, the default) or paper (the published set-up).
        set: Options of the task, as name=value: see `tangential list`.
    """

    preset: str | None = None
    set: Annotated[tuple[str, ...], Many] = ()

    def values(self, task: str) -> dict[str, Any]:
        """The options by name; ValueError if the task does not have one of them."""
        preset = [] if self.preset is None else [f"preset={self.preset}"]
        return experiments.parse_options(task, [*preset, *self.set])


@Parameter(name="*")
@dataclass(frozen=True)
class TrialSettings:
    """How long trials are, and how they are run.

    Args:
        epochs: Length of every trial; by default the task's own.
        workers: Processes on this machine, one per core or GPU; by default all. With 0, wait for
            workers on other machines.
        threads: Threads per worker. A different number may change the last digit of every result.
        precision: Precision of the matrix products.
        sharded: Shard the weights over the processes of a trial (FSDP2) instead of copying them
            (DDP).
    """

    epochs: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1_000_000))] = None
    workers: Processes | None = None
    threads: Threads = 1
    precision: Literal["no", "bf16", "fp16"] = "no"
    sharded: bool = False


@Parameter(name="*")
@dataclass(frozen=True)
class GivenSettings:
    """Settings in place of the task's published ones, for studies without a search.

    Args:
        lr: Learning rates in place of the published ones: a number for all optimizers, or
            NAME=NUMBER for an optimizer or a family, such as sgd=0.1 adamp=1e-3. The family sgd
            has all kinds of SGD and SGDP; adam has those of Adam, AdamW and AdamP.
        weight_decay: Weight decays in place of the published ones, written in the same way.
    """

    lr: Annotated[tuple[str, ...], Many] = ()
    weight_decay: Annotated[tuple[str, ...], Many] = ()

    def points(self) -> dict[str, Point]:
        """The settings by optimizer or family; ValueError if one is not written as above."""
        points: dict[str, Point] = {}
        for setting, texts in ("lr", self.lr), ("weight_decay", self.weight_decay):
            option = f"--{setting.replace('_', '-')}"
            for name, value in _numbers(option, texts).items():
                points.setdefault(name, {})[setting] = value
        return points


DEFAULT_TASK_OPTIONS = TaskOptions()
DEFAULT_TRIAL_SETTINGS = TrialSettings()
NOTHING_GIVEN = GivenSettings()


def _numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if name in numbers or bool(equals) != bool(name):
            raise ValueError(f"{option} must name every optimizer once, got {' '.join(texts)}")
        try:
            numbers[name] = float(number)
        except ValueError:
            raise ValueError(f"{option} must be a number or NAME=NUMBER, got {text!r}") from None
    if "" in numbers:
        everywhere = numbers.pop("")
        numbers = dict.fromkeys(FAMILIES, everywhere) | numbers
    return numbers
