"""Scores a model between the steps of its training."""

import math
from itertools import zip_longest

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tangential_lab.training.batches import ProcessShare, evaluation_batches
from tangential_lab.training.curves import Clock
from tangential_lab.training.distributed import values_of_all_processes
from tangential_lab.training.task import Split, Task


def score(
    task: Task,
    split: Split,
    model: nn.Module,
    accelerator: Accelerator,
    share: ProcessShare,
    clock: Clock,
) -> dict[str, float]:
    """The task's metrics on a split, on every process; NaN if the model diverged.

    Args:
        task: The task.
        split: The data.
        model: The model; it is in training mode again afterwards.
        accelerator: Where it is, and in which precision.
        share: The share of the batches that this process predicts.
        clock: Measures the time.
    """
    local = []
    model.eval()
    with torch.no_grad(), accelerator.autocast():
        for batch in evaluation_batches(task, split, share):
            batch = send_to_device(batch, accelerator.device)
            clock.lap("other")
            local.append(task.predict(model, batch))
            clock.lap("evaluation")
    model.train()
    by_process = values_of_all_processes(local) if share.processes > 1 else [local]
    predictions = [x for turn in zip_longest(*by_process) for x in turn if x is not None]
    numbers = (x for x in tree_leaves(predictions) if isinstance(x, (float, Tensor)))
    is_finite = all(torch.as_tensor(x).isfinite().all() for x in numbers)
    return task.score(predictions) if is_finite else {task.metric.name: math.nan}
