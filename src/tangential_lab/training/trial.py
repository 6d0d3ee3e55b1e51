"""The one loop that trains every trial of every task."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import send_to_device, set_seed
from torch import Tensor
from torch.utils._pytree import tree_leaves

from tangential import Monitor
from tangential_lab.training import checkpoint
from tangential_lab.training.batches import (
    ProcessShare,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from tangential_lab.training.clock import Clock
from tangential_lab.training.curves import Curves
from tangential_lab.training.distributed import (
    distribute,
    make_accelerator,
    value_of_first_process,
    values_of_all_processes,
)
from tangential_lab.training.optimizers import OptimizerEntry, split_groups
from tangential_lab.training.records import PHASES, Record, Spec
from tangential_lab.training.resuming import state_of, take_state
from tangential_lab.training.task import Batch, Task

LOGS = 200  # of a trial, at most
LOG_EVERY = 10  # steps, at least


class TrialStopped(Exception):  # noqa: N818 - nothing is wrong
    """A trial was asked to stop; its state is on disk."""


class TrialOptions(NamedTuple):
    """How a trial is run, beside what it is."""

    epochs: float
    invariant: frozenset[str] = frozenset()  # names of the scale-invariant weights
    precision: str = "no"  # "bf16", "fp16"
    folder: Path | None = None  # of its checkpoints
    sharded: bool = False  # spread weights over the processes (FSDP2), not copies of them (DDP)
    checkpoint_s: float = 60.0  # seconds from one to the next
    stop: Callable[[], bool] = bool  # asked between steps
    evaluations: int = 0  # along the way, beside the one at the end
    layers: bool = False  # keep every weight's curves


class Trial:
    """A model in training.

    Args:
        task: What is trained.
        entry: By which optimizer.
        spec: At which point of its space, with which seed, scored on which split.
        run: How.

    Raises:
        ValueError: the batch cannot be shared equally by the processes.
    """

    def __init__(self, task: Task, entry: OptimizerEntry, spec: Spec, run: TrialOptions) -> None:
        self.accelerator = make_accelerator(run.precision)
        self.part = ProcessShare(self.accelerator.process_index, self.accelerator.num_processes)
        if task.batch_size % self.part.processes:
            raise ValueError(
                f"{task.name}'s batch of {task.batch_size} cannot be shared equally by "
                f"{self.part.processes} processes, allowed are its divisors"
            )
        self.task, self.spec, self.run = task, spec, run
        set_seed(spec.seed)
        model = task.model()
        self.model = distribute(self.accelerator, model, sharded=run.sharded)
        inner = self.accelerator.unwrap_model(self.model)
        groups = split_groups(task.groups(inner), inner, run.invariant, spec.values.get("lr"))
        self.optimizer = self.accelerator.prepare(entry.build(groups, **spec.values))
        if self.part.rank:
            set_seed(spec.seed + 7919 * self.part.rank)  # dropout differs from process to process
        self.lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.steps = max(1, round(run.epochs * steps_per_epoch(task)))
        self.every = max(LOG_EVERY, math.ceil(self.steps / LOGS))
        names = [name for name, p in model.named_parameters() if p.dim() > 1]
        self.curves = Curves([n for n in names if n in run.invariant], layers=run.layers)
        self.scores: dict[str, list[float]] = {"step": [], "time_s": [], "score": []}
        count = run.evaluations
        along = {round(self.steps * (i + 1) / (count + 1)) for i in range(count)}
        self.evaluated = along - {self.steps}  # numbers of steps done
        self.step, self.diverged = 0, False
        self.loss = torch.zeros((), device=self.accelerator.device)  # summed since the last log
        self.clock, self.saved_at = Clock(), time.monotonic()

    # ---- training

    def train(self) -> Record:
        """Train to the end, from the newest checkpoint if there is one; return the record.

        Raises:
            Stopped: `run.stop` said so; the state has been saved.
        """
        self._restore()
        self.model.train()
        batches = training_batches(self.task, self.spec.seed, self.step, self.part)
        inner = self.accelerator.unwrap_model(self.model)
        shift = (1 - self.steps) % self.every  # the last step is logged, and every so many before
        with Monitor(inner, self.optimizer, self.every, self.curves) as monitor:
            self.clock.lap("other")
            while self.step < self.steps and not self.diverged:
                monitor.step = self.step + shift  # it does not count steps that a scaler skips
                self._advance(next(batches))
                self._pause()
        return self._record()

    def _advance(self, batch: Batch) -> None:
        batch = send_to_device(batch, self.accelerator.device)
        share = self.task.schedule(self.step / self.steps)
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = lr * share
        self.optimizer.optimizer.zero_grad()  # the wrapper inspects its signature every time
        self._lap("other")
        with self.accelerator.autocast():
            loss = self.task.loss(self.model, batch)
        self._lap("forward")
        self.accelerator.backward(loss)
        if self.task.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.task.max_grad_norm)
        self._lap("backward")
        self.optimizer.step()
        self._lap("step")
        self.loss += loss.detach()
        self.step += 1
        if self._logged(self.step - 1):
            self._log(self.lrs[0] * share)
        if self.step in self.evaluated:
            self.evaluate()

    def _logged(self, step: int) -> bool:
        return (self.steps - 1 - step) % self.every == 0

    def _lap(self, part: str) -> None:
        if self.accelerator.device.type == "cuda" and self._logged(self.step):
            torch.cuda.synchronize()  # elsewhere a lap is the time to launch
        self.clock.lap(part)

    def _log(self, lr: float) -> None:
        last = self.curves.columns["step"][-1] if self.curves.columns["step"] else -1
        total: Any = self.accelerator.reduce(self.loss, "mean")
        loss = total.item() / (self.step - 1 - last)
        self.loss.zero_()
        self.curves.add(self.step - 1, loss, lr)
        self.diverged = not math.isfinite(loss)

    # ---- evaluation

    def evaluate(self) -> dict[str, float]:
        """The task's metrics on the split of this trial's phase, on every process."""
        split = self.task.splits[PHASES[self.spec.phase]]
        sharded = self.run.sharded  # then the processes gather weights in step, batch by batch
        part = ProcessShare() if sharded else self.part
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            mine = [self._predict(batch) for batch in evaluation_batches(self.task, split, part)]
        self.model.train()
        each = [mine] if sharded else values_of_all_processes(mine)
        predictions, metric = list(_in_turn(each)), self.task.metric.name
        metrics = self.task.score(predictions) if _finite(predictions) else {metric: math.nan}
        score = metrics[metric]
        for name, value in (
            ("step", self.step),
            ("time_s", round(self.clock.training_s, 4)),
            ("score", score),
        ):
            self.scores[name].append(value)
        return metrics

    def _predict(self, batch: Batch) -> Any:
        batch = send_to_device(batch, self.accelerator.device)
        self.clock.lap("other")
        prediction = self.task.predict(self.model, batch)
        self.clock.lap("evaluation")
        return prediction

    # ---- what is kept

    def _record(self) -> Record:
        metrics = {} if self.diverged else self.evaluate()
        self.diverged |= not all(map(math.isfinite, metrics.values()))
        guess, seconds = self.task.metric.chance_score, self.clock.seconds
        loss = metrics.get("loss", self.curves.last("loss"))
        return {
            "score": guess if self.diverged else metrics[self.task.metric.name],
            "metrics": metrics,
            "loss": math.inf if self.diverged else loss,
            "diverged": self.diverged,
            "steps": self.step,
            "step_s": sum(seconds[name] for name in ("forward", "backward", "step")) / self.step,
            "optimizer_s": seconds["step"] / self.step,
            "seconds": {**seconds, "total": sum(seconds.values())},
            "scores": self.scores,
            **self.curves.record(),
        }

    def _pause(self) -> None:
        """Save, where that is due or wanted. Processes agree about it at logged steps."""
        if self.diverged:  # which is the end; a checkpoint would not know
            return
        if self.part.processes > 1 and not self._logged(self.step):
            return
        stop = self.run.stop()
        due = time.monotonic() - self.saved_at >= self.run.checkpoint_s
        stop, due = value_of_first_process((stop, due)) if self.part.processes > 1 else (stop, due)
        if self.step < self.steps and (stop or due):
            self._save()
        if stop:
            raise TrialStopped

    def _save(self) -> None:
        if self.run.folder is None:
            return
        state = state_of(self.accelerator, self.model, self.optimizer, sharded=self.run.sharded) | {
            "step": self.step,
            "loss": self.loss,
            "curves": self.curves.state(),
            "scores": self.scores,
            "seconds": self.clock.seconds,
        }
        self.saved_at = time.monotonic()
        if self.accelerator.is_main_process:
            try:
                checkpoint.save(self.run.folder, state)
            except OSError as error:  # what was there still is
                warnings.warn(f"no checkpoint, training goes on: {error}", stacklevel=2)

    def _restore(self) -> None:
        found = checkpoint.load(self.run.folder) if self.run.folder else None
        state = value_of_first_process(found)
        if state is None:
            return
        take_state(self.accelerator, self.model, self.optimizer, state, sharded=self.run.sharded)
        self.step, self.scores, self.clock.seconds = (
            state[name] for name in ("step", "scores", "seconds")
        )
        self.loss.copy_(state["loss"])
        self.curves.load(state["curves"])


def _finite(predictions: list[Any]) -> bool:
    """Whether a model can be scored: what has diverged may be no input for a metric."""
    numbers = (x for x in tree_leaves(predictions) if isinstance(x, (float, Tensor)))
    return all(torch.as_tensor(x).isfinite().all() for x in numbers)


def _in_turn(each: list[list[Any]]) -> Iterator[Any]:
    """The first of every process, the second of every process, and so on."""
    for row in range(max(map(len, each))):
        yield from chain(part[row] for part in each if row < len(part))
