"""The metrics of a model on a split, computed by all processes of a trial."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tangential_lab.training.batches import ProcessShare, evaluation_batches
from tangential_lab.training.curves import Clock
from tangential_lab.training.distributed import values_of_all_processes
from tangential_lab.training.task import Split, Task


def evaluate(
    task: Task,
    split: Split,
    model: nn.Module,
    accelerator: Accelerator,
    clock: Clock,
    *,
    sharded: bool,
) -> dict[str, float]:
    """The task's metrics on a split, on every process; NaN if a prediction is not finite.

    The model is left in training mode. With `sharded` weights all processes predict all batches,
    because they gather the weights together.
    """
    share = ProcessShare(accelerator.process_index, accelerator.num_processes)
    batches = evaluation_batches(task, split, ProcessShare() if sharded else share)
    model.eval()
    with torch.no_grad(), accelerator.autocast():
        local = []
        for batch in batches:
            batch = send_to_device(batch, accelerator.device)
            clock.lap("other")
            local.append(task.predict(model, batch))
            clock.lap("evaluation")
    model.train()
    predictions = list(_in_turn([local] if sharded else values_of_all_processes(local)))
    return task.score(predictions) if _finite(predictions) else {task.metric.name: math.nan}


def _finite(predictions: list[Any]) -> bool:
    """Whether all predictions are finite: metrics may raise an error if a model diverged."""
    numbers = (x for x in tree_leaves(predictions) if isinstance(x, (float, Tensor)))
    return all(torch.as_tensor(x).isfinite().all() for x in numbers)


def _in_turn(by_process: list[list[Any]]) -> Iterator[Any]:
    """The first prediction of every process, the second of every process, and so on."""
    for row in range(max(map(len, by_process))):
        yield from chain(values[row] for values in by_process if row < len(values))
