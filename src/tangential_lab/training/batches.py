"""Batches that depend only on the seed and the step, not on the process that loads them."""

import os
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from tangential_lab.training.task import Batch, Split, Task

STRIDE = 1_000_003  # seed * STRIDE + epoch is unique, so that no two epochs have one order
MOST_LOADERS = 16


def usable_cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_processes() -> int:
    """Number of processes that decode pictures or sounds: one per core, 16 at most.

    The processes that torchrun starts on one machine share its cores.
    """
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_LOADERS, usable_cores() // sharing))


class ProcessShare(NamedTuple):
    """The share of every batch that one process trains on: equal slices, in order of rank."""

    rank: int = 0
    processes: int = 1

    def of(self, indices: list[int]) -> list[int]:
        """This process's slice of a batch."""
        size = len(indices) // self.processes
        return indices[self.rank * size : (self.rank + 1) * size]


class _BatchRequest(NamedTuple):
    """A batch to load: its samples, and the seed of their random transforms."""

    indices: list[int]
    seed: int


def steps_per_epoch(task: Task) -> int:
    """Number of batches in one pass over the training data.

    Raises:
        ValueError: the training data are smaller than one batch.
    """
    size = len(task.splits["train"])
    batches = sum(1 for _ in task.batch_order(size, task.batch_size, torch.Generator()))
    if not batches:
        raise ValueError(
            f"{task.name} has {size} training samples, which is less than one batch of "
            f"{task.batch_size}"
        )
    return batches


def training_batches(
    task: Task, seed: int, first_step: int, share: ProcessShare
) -> Iterator[Batch]:
    """Endless training batches, from step `first_step` on.

    A batch depends only on the task, the seed and the step; and, if samples are transformed at
    random, on the number of processes that share it.
    """
    requests = _training_requests(task, seed, first_step, share)
    return iter(_loader(task, task.splits["train"], requests))


def _training_requests(
    task: Task, seed: int, first_step: int, share: ProcessShare
) -> Iterator[_BatchRequest]:
    size, length = len(task.splits["train"]), steps_per_epoch(task)
    for epoch in count(first_step // length):
        generator = torch.Generator().manual_seed(seed * STRIDE + epoch)
        batches = task.batch_order(size, task.batch_size, generator)
        for step, indices in enumerate(batches, epoch * length):
            if step >= first_step:
                batch_seed = (seed * STRIDE + step) * share.processes + share.rank
                yield _BatchRequest(share.of(indices.tolist()), batch_seed)


def evaluation_batches(task: Task, split: Split, share: ProcessShare) -> DataLoader:
    """The batches of a split that this process evaluates: every `share.processes`-th batch."""
    size, step = len(split), task.evaluation_batch_size
    requests = [_BatchRequest(list(range(i, min(i + step, size))), i) for i in range(0, size, step)]
    return _loader(task, split, requests[share.rank :: share.processes])


def _loader(task: Task, split: Split, requests: Iterable[Any]) -> DataLoader:
    return DataLoader(
        _SeededSplit(split),
        batch_sampler=requests,
        num_workers=task.loader_workers,
        collate_fn=_unchanged,
        generator=torch.Generator(),  # the global generator must not advance
        pin_memory=torch.cuda.is_available(),
    )


class _SeededSplit(Dataset):
    """A split that seeds the global generator for every batch, and restores it afterwards."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitems__(self, request: _BatchRequest) -> Batch:
        generator = torch.default_generator  # `torch.manual_seed` is slow: half a millisecond
        before = generator.get_state()
        try:
            generator.manual_seed(request.seed)
            return self.split.__getitems__(request.indices)
        finally:
            generator.set_state(before)


def _unchanged(batch: Batch) -> Batch:
    return batch
