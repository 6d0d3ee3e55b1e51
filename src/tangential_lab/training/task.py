"""A task: which model is trained on which data, and how it is scored; its trials and records."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

Batch = Any  # tensors, or tuples, lists and dicts of tensors
ParamGroups = list[dict[str, Any]]  # as torch's optimizers take them
Phase = Literal[
    "tune",
    "test",
    "undecayed",  # the baseline's lr and no weight decay: only the update makes norms differ
    "runner-up",  # points that tuning cannot tell from the best one
]
Point = dict[str, float]  # in a search space: {"lr": 0.1, "weight_decay": 1e-4}
Record = dict[str, Any]  # the results of a trial

PHASES: dict[str, str] = {  # phase -> the split on which its trials are scored
    phase: "validation" if phase == "tune" else "test" for phase in get_args(Phase)
}
PHASE_NAMES = {phase: "tuning" if phase == "tune" else phase for phase in PHASES}  # in messages


class Spec(NamedTuple):
    """What identifies a trial: two trials with the same spec have the same result."""

    optimizer: str
    phase: Phase
    seed: int
    point: tuple[tuple[str, float], ...]  # (("lr", 0.1), ("weight_decay", 1e-4))

    @property
    def values(self) -> Point:
        """The point, by name."""
        return dict(self.point)


Records = dict[Spec, Record]


class TrialStopped(Exception):  # noqa: N818 - nothing is wrong
    """The trial was asked to stop; its state is on disk."""


class TrialOptions(NamedTuple):
    """How a trial is run; its `Spec` says what it is."""

    epochs: float
    invariant: frozenset[str] = frozenset()  # names of the scale-invariant weights
    precision: str = "no"  # "no", "bf16" or "fp16"
    folder: Path | None = None  # of its checkpoints
    sharded: bool = False  # shard the weights over the processes (FSDP2) instead of copying (DDP)
    checkpoint_s: float = 60.0  # seconds between checkpoints
    stop: Callable[[], bool] = bool  # called between steps; True stops the trial
    on_share: Callable[[float], Any] = lambda share: None  # gets the share of steps that are done
    evaluations: int = 0  # during the trial, besides the one at its end
    layers: bool = False  # keep the curves of every weight
    record_angles: bool = False  # by which every step turns the scale-invariant weights
    angles: Tensor | None = None  # [steps, units], recorded by its leader's trial


def trial_title(optimizer: str, phase: str, seed: int) -> str:
    """A trial in a message.

    >>> trial_title("sgdp", "tune", 0)
    "sgdp's tuning trial of seed 0"
    """
    return f"{optimizer}'s {PHASE_NAMES.get(phase, phase)} trial of seed {seed}"


class Split(Protocol):
    """A data set that returns whole batches.

    Random transforms must draw from torch's global generator. It is seeded before every batch, so
    that a batch depends neither on the batches before it nor on the process that loads it.
    """

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitems__(self, indices: list[int], /) -> Batch:
        """The batch of these samples."""
        ...


@dataclass(frozen=True)
class TensorSplit:
    """A split in memory. A batch is a pair of inputs and labels."""

    inputs: Tensor  # [n, ...]
    labels: Tensor  # [n, ...]
    augment: Callable[[Tensor], Tensor] | None = None  # applied to the inputs of every batch

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.inputs)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The batch of these samples."""
        rows = torch.tensor(indices)
        inputs = self.inputs[rows]
        return self.augment(inputs) if self.augment else inputs, self.labels[rows]


class Metric(NamedTuple):
    """What is compared at the end of training."""

    name: str  # "accuracy"
    unit: str  # "%": shown times 100; "" or "nats": shown as it is
    chance_score: float  # of a model that has learnt nothing; diverged trials get it, too
    higher_is_better: bool = True
    margin: float = 0.003  # the largest difference that does not matter; set before any study

    def oriented(self, score: float) -> float:
        """The score with its sign changed if lower is better."""
        return score if self.higher_is_better else -score


class DataSource(NamedTuple):
    """Where a task's data come from."""

    about: str = "the user's own data"  # which data, from where, in one line
    checksum: str = ""  # sha256 of the files, or of their names and sizes if there are too many


def cosine_schedule(done: float, warm_up: float = 0.0) -> float:
    """The factor of the learning rate after the share `done` of the training.

    With `warm_up`, the factor rises from 0.01 during that share of the training.
    """
    warmed = min(1.0, 0.01 + done / warm_up) if warm_up else 1.0
    return warmed * 0.5 * (1 + math.cos(math.pi * done))


def single_group(model: nn.Module) -> ParamGroups:
    """One parameter group with all trainable parameters."""
    return [{"params": [p for p in model.parameters() if p.requires_grad]}]


def groups_with_lr_scale(model: nn.Module, module: str, scale: float) -> ParamGroups:
    """Parameter groups in which modules of this name have `scale` times the usual learning rate."""
    scaled = [p for name, p in model.named_parameters() if module in name.split(".")]
    [everything] = single_group(model)
    rest = [p for p in everything["params"] if all(p is not other for other in scaled)]
    return [{"params": rest}, *([{"params": scaled, "lr_scale": scale}] if scaled else [])]


def shuffled_batches(size: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The indices of an epoch's batches, shuffled; an incomplete last batch is dropped."""
    shuffled = torch.randperm(size, generator=generator)
    yield from shuffled.split(batch_size)[: size // batch_size]


def class_balanced_batches(
    labels: Tensor, per_class: int, size: int, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """The indices of an epoch's batches, made of groups of `per_class` samples of one class."""
    shuffled = torch.randperm(size, generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    groups = [g for members in by_class.split(counts.tolist()) for g in members.split(per_class)]
    complete = [group for group in groups if len(group) == per_class]
    groups_per_batch = batch_size // per_class
    batches = torch.randperm(len(complete), generator=generator).split(groups_per_batch)
    for numbers in batches[: len(complete) // groups_per_batch]:
        yield torch.cat([complete[i] for i in numbers.tolist()])


USUAL: Mapping[str, Point] = {  # where a search begins if nothing is published
    "sgd": {"lr": 0.1, "weight_decay": 1e-4},
    "adam": {"lr": 1e-3, "weight_decay": 1e-2},
}


class Handover(NamedTuple):
    """Another optimizer takes over from the compared one, as in some published recipes."""

    after: float  # this share of the training
    optimizer: str  # a built-in one
    point: Point  # its settings; the task's schedule multiplies its learning rate

    def point_after(self, before: Point) -> Point:
        """Its settings after the compared optimizer's: without weight decay if that has none."""
        return self.point | {k: 0.0 for k in ("weight_decay",) if before.get(k) == 0}


NO_HANDOVER = Handover(1.0, "sgd", {})


class Task(NamedTuple):
    """An experiment: everything that the training loop needs.

    `loss` returns the mean over the batch, so that processes that share a batch can average it;
    its model is in training mode. `predict` gets a model in evaluation mode, without gradients
    unless it enables them, and returns predictions on the CPU; `score` gets the
    predictions of all batches, in order. State that lasts from step to step must be in buffers.
    """

    name: str
    about: str  # data and model, in one line
    metric: Metric
    epochs: float
    batch_size: int
    splits: Mapping[str, Split]  # "train", "test", and "validation", which a search needs
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    predict: Callable[[nn.Module, Batch], Any]
    score: Callable[[list[Any]], dict[str, float]]  # the metric by its name, and others
    published: Mapping[str, Point] = USUAL  # without tuning, by optimizer or family
    data: DataSource = DataSource()
    groups: Callable[[nn.Module], ParamGroups] = single_group  # may have "lr_scale"
    ends: tuple[str, ...] | None = None  # modules of the first and last layers, see `muon`
    schedule: Callable[[float], float] = cosine_schedule
    batch_order: Callable[[int, int, torch.Generator], Iterator[Tensor]] = shuffled_batches
    evaluation_batch_size: int = 512
    evaluations: int = 10  # during a test trial, besides the one at its end
    max_grad_norm: float | None = None
    loader_workers: int = 0  # processes that load batches
    frozen_epochs: float = 0.0  # in which a part of the weights is not trained
    audit_loss: Callable[[nn.Module, Batch], Tensor] | None = None  # by default `loss`
    handover: Handover = NO_HANDOVER
    # by optimizer; they replace its usual one; those that are not in a study are left out
    baselines: Mapping[str, tuple[str, ...]] = {}
