"""A task: what is trained on what, and what counts."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tangential_lab.training.optimizers import ParamGroups

Batch = Any  # tensors, or tuples, lists and dicts of tensors


class Split(Protocol):
    """Data that knows its length and gives whole batches.

    What it draws by chance comes from torch's global generator, which is seeded batch by batch, so
    that a batch does not depend on those before it, nor on the process that loads it.
    """

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitems__(self, indices: list[int], /) -> Batch:
        """The batch of these samples."""
        ...


class Metric(NamedTuple):
    """What counts at the end of training."""

    name: str  # "accuracy"
    unit: str  # "%": shown a hundredfold, "" or "nats": as it is
    chance_score: float  # the score of a model that has learnt nothing, and of a diverged trial
    higher_is_better: bool = True

    def oriented(self, score: float) -> float:
        """The score, or where lower is better its negative."""
        return score if self.higher_is_better else -score


class DataSource(NamedTuple):
    """Where a task's data come from."""

    about: str  # what and whence, in a line
    checksum: str  # sha256 of the files, or of their names and sizes where they are too many


def cosine_schedule(done: float, warm_up: float = 0.0) -> float:
    """The share of the learning rate left when this share of the training is done.

    With a warm-up it rises at first, from a hundredth, for that share of the training.
    """
    risen = min(1.0, 0.01 + done / warm_up) if warm_up else 1.0
    return risen * 0.5 * (1 + math.cos(math.pi * done))


def single_group(model: nn.Module) -> ParamGroups:
    """All weights, with no settings of their own."""
    return [{"params": [p for p in model.parameters() if p.requires_grad]}]


def groups_with_lr_scale(model: nn.Module, module: str, scale: float) -> ParamGroups:
    """All weights, those under modules of a name at a learning rate of their own.

    Args:
        model: With the weights.
        module: The modules' name.
        scale: Their learning rate as a multiple of the others'.
    """
    own = [p for name, p in model.named_parameters() if module in name.split(".")]
    [rest] = single_group(model)
    others = [p for p in rest["params"] if all(p is not mine for mine in own)]
    return [{"params": others}, *([{"params": own, "lr_scale": scale}] if own else [])]


def shuffled_batches(size: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """An epoch's batches of indices, shuffled; the samples left over wait for the next epoch."""
    shuffled = torch.randperm(size, generator=generator)
    yield from shuffled.split(batch_size)[: size // batch_size]


def class_balanced_batches(
    labels: Tensor, each: int, size: int, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """An epoch's batches of indices, made of groups of `each` images of a class."""
    shuffled = torch.randperm(size, generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    groups = [g for own in by_class.split(counts.tolist()) for g in own.split(each)]
    whole = [group for group in groups if len(group) == each]
    a_batch = batch_size // each
    turns = torch.randperm(len(whole), generator=generator).split(a_batch)
    for chosen in turns[: len(whole) // a_batch]:
        yield torch.cat([whole[i] for i in chosen.tolist()])


class Task(NamedTuple):
    """An experiment, as the one loop wants it.

    A batch's loss is a mean over the batch, so that processes that share a batch can average.
    `loss` gets a model in training mode. `predict` gets one in evaluation mode, without gradients
    unless it asks for them, and returns what `score` needs of a batch, on the CPU; `score` gets
    that of all batches, in order. A model's state that lasts from step to step lies in buffers.
    """

    name: str
    about: str  # in a line: data and model
    data: DataSource
    metric: Metric
    epochs: float
    batch_size: int
    splits: Mapping[str, Split]  # "train", "validation", "test"
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    predict: Callable[[nn.Module, Batch], Any]
    score: Callable[[list[Any]], dict[str, float]]  # the metric by its name, and others
    published: Mapping[str, dict[str, float]]  # settings by family, where nothing is tuned
    groups: Callable[[nn.Module], ParamGroups] = (
        single_group  # of weights; may have "lr_scale" and options
    )
    schedule: Callable[[float], float] = cosine_schedule
    batch_order: Callable[[int, int, torch.Generator], Iterator[Tensor]] = shuffled_batches
    evaluation_batch_size: int = 512
    evaluations: int = 10  # of the report split, in a report trial
    max_grad_norm: float | None = None  # of the gradient's norm
    loader_workers: int = 0  # processes that load batches
    frozen_epochs: float = 0.0  # epochs in which a part of the weights is not trained
    audit_loss: Callable[[nn.Module, Batch], Tensor] | None = (
        None  # the audit's loss, if not `loss`
    )
