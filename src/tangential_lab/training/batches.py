"""Batches whose order and chance are functions of seed and step, whoever loads them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from tangential_lab.training.task import Batch, Split, Task

STRIDE = 1_000_003  # a prime between the seeds of runs, so that epochs of two runs do not meet


class Draw(NamedTuple):
    """A batch to load: which samples, and the seed of what is drawn by chance."""

    indices: list[int]
    seed: int


class ProcessShare(NamedTuple):
    """Which share of every batch is this process's: equal slices, in order."""

    rank: int = 0
    processes: int = 1

    def of(self, indices: list[int]) -> list[int]:
        """This process's slice of a batch."""
        size = len(indices) // self.processes
        return indices[self.rank * size : (self.rank + 1) * size]


def steps_per_epoch(task: Task) -> int:
    """Batches in a pass over the training data.

    Raises:
        ValueError: there is less than one.
    """
    size = len(task.splits["train"])
    count = sum(1 for _ in task.batch_order(size, task.batch_size, torch.Generator()))
    if not count:
        raise ValueError(f"{task.name} has {size} samples, a batch has {task.batch_size}")
    return count


def training_batches(task: Task, seed: int, first: int, part: ProcessShare) -> Iterator[Batch]:
    """Batches without end, from step `first` on.

    A batch depends on the task, the seed and the step alone (and, where its samples are changed by
    chance, on how many processes share it).
    """
    return iter(_loader(task, task.splits["train"], _Training(task, seed, first, part)))


def evaluation_batches(task: Task, split: Split, part: ProcessShare) -> DataLoader:
    """The batches of a split that this process evaluates: every `part.processes`-th."""
    size = len(split)
    draws = [
        Draw(list(range(i, min(i + task.evaluation_batch_size, size))), i)
        for i in range(0, size, task.evaluation_batch_size)
    ]
    return _loader(task, split, draws[part.rank :: part.processes])


def _loader(task: Task, split: Split, draws: Any) -> DataLoader:
    return DataLoader(
        _Seeded(split),
        batch_sampler=draws,
        num_workers=task.loader_workers,
        collate_fn=_same,
        generator=torch.Generator(),  # not the global one, whose state a resumed trial must have
        pin_memory=torch.cuda.is_available(),
    )


class _Training(Sampler[Draw]):
    """The draws of all epochs from step `first` on."""

    def __init__(self, task: Task, seed: int, first: int, part: ProcessShare) -> None:
        self.task, self.seed, self.first, self.part = task, seed, first, part

    def __iter__(self) -> Iterator[Draw]:
        size, length = len(self.task.splits["train"]), steps_per_epoch(self.task)
        epoch, skip = divmod(self.first, length)
        step = epoch * length
        while True:
            generator = torch.Generator().manual_seed(self.seed * STRIDE + epoch)
            for indices in self.task.batch_order(size, self.task.batch_size, generator):
                if skip:
                    skip -= 1
                else:
                    seed = (self.seed * STRIDE + step) * self.part.processes + self.part.rank
                    yield Draw(self.part.of(indices.tolist()), seed)
                step += 1
            epoch += 1


class _Seeded(Dataset):
    """A split whose chance is the draw's, and whose use leaves the global generator alone."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitems__(self, draw: Draw) -> Batch:
        generator = torch.default_generator  # `torch.manual_seed` takes half a millisecond
        before = generator.get_state()
        try:
            generator.manual_seed(draw.seed)
            return self.split.__getitems__(draw.indices)
        finally:
            generator.set_state(before)


def _same(batch: Batch) -> Batch:
    return batch
