"""The training loop, which all trials of all tasks use."""

import math
import time
import warnings
from typing import Any

import torch
from accelerate.utils import send_to_device, set_seed

from tangential import Monitor
from tangential_lab.training import checkpoint, distributed
from tangential_lab.training.batches import ProcessShare, steps_per_epoch, training_batches
from tangential_lab.training.curves import Clock, Curves
from tangential_lab.training.evaluation import score
from tangential_lab.training.optimizers import (
    OPTIMIZERS,
    AngleRecorder,
    OptimizerEntry,
    RescaledAdamW,
    angles_text,
    split_groups,
)
from tangential_lab.training.task import (
    PHASES,
    Batch,
    Point,
    Record,
    Spec,
    Task,
    TrialOptions,
    TrialStopped,
)

MOST_LOGS = 200  # logged steps of a trial, at most
LOG_EVERY = 10  # steps between two logged steps, at least


class Trial:
    """A model in training on a task, by the optimizer, at the point and with the seed of a spec.

    Raises:
        ValueError: the processes cannot share the batch equally.
    """

    def __init__(
        self, task: Task, entry: OptimizerEntry, spec: Spec, options: TrialOptions
    ) -> None:
        self.accelerator = distributed.make_accelerator(options.precision)
        self.share = ProcessShare(self.accelerator.process_index, self.accelerator.num_processes)
        if task.batch_size % self.share.processes:
            raise ValueError(
                f"{self.share.processes} processes cannot share {task.name}'s batch of "
                f"{task.batch_size} equally: start a number of processes that divides it"
            )
        self.task, self.spec, self.options, self.sharded = task, spec, options, options.sharded
        set_seed(spec.seed)
        model = task.model()
        self.model = distributed.distribute(self.accelerator, model, sharded=self.sharded)
        self._train_with(entry, spec.values)
        if self.share.rank:
            set_seed(spec.seed + 7919 * self.share.rank)  # each process has its own dropout
        self.steps = max(1, round(options.epochs * steps_per_epoch(task)))
        self.handover_step = max(1, round(task.handover.after * self.steps))
        self.log_every = max(LOG_EVERY, math.ceil(self.steps / MOST_LOGS))
        matrices = [name for name, p in model.named_parameters() if p.dim() > 1]
        invariant = [name for name in matrices if name in options.invariant]
        self.curves = Curves(invariant, layers=options.layers)
        self.scores: dict[str, list[float]] = {"step": [], "time_s": [], "score": []}
        parts = options.evaluations + 1
        self.evaluated_at = {round(self.steps * i / parts) for i in range(1, parts)} - {self.steps}
        self.step, self.diverged = 0, False
        self.loss = torch.zeros((), device=self.accelerator.device)  # summed since the last log
        self.clock, self.saved_at = Clock(), time.monotonic()

    # ---- training

    def _train_with(self, entry: OptimizerEntry, point: Point) -> None:
        """Train with this optimizer from now on."""
        inner, lr = self.accelerator.unwrap_model(self.model), point.get("lr")
        groups = split_groups(self.task, inner, self.options.invariant, lr)
        optimizer = entry.build(groups, **point)
        if isinstance(optimizer, RescaledAdamW):
            optimizer.angles = self.options.angles
        self.recorder = AngleRecorder(optimizer, groups) if self.options.record_angles else None
        self.optimizer = self.accelerator.prepare(optimizer)
        self.lrs = [group["lr"] for group in self.optimizer.param_groups]

    def _hand_over(self) -> None:
        """Train with the optimizer that takes over."""
        self.accelerator.free_memory()  # otherwise it unscales gradients for both optimizers
        handover = self.task.handover
        self._train_with(OPTIMIZERS[handover.optimizer], handover.point_after(self.spec.values))

    def train(self) -> Record:
        """Train to the end, from the newest checkpoint if there is one; return the record.

        Raises:
            TrialStopped: `options.stop` returned True; the state has been saved.
        """
        self._restore()
        self.model.train()
        batches = training_batches(self.task, self.spec.seed, self.step, self.share)
        inner = self.accelerator.unwrap_model(self.model)
        # the last step is logged, and every `log_every`-th one before it
        shift = (1 - self.steps) % self.log_every
        number = lambda: self.step + shift  # the optimizer does not count steps that a scaler skips
        for end in sorted({self.handover_step, self.steps}):
            with Monitor(inner, self.optimizer, self.log_every, self.curves, step=number):
                self.clock.lap("other")
                while self.step < end and not self.diverged:
                    self._advance(next(batches))
                    self._save_if_due()
            if self.step == self.handover_step < self.steps and not self.diverged:
                self._hand_over()
        return self._record()

    def _advance(self, batch: Batch) -> None:
        batch = send_to_device(batch, self.accelerator.device)
        factor = self.task.schedule(self.step / self.steps)
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = lr * factor
        self.optimizer.optimizer.zero_grad()  # Accelerate's wrapper is slower
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
        self.options.on_share(self.step / self.steps)
        if self._is_logged(self.step - 1):
            self._log(self.lrs[0] * factor)
        if self.step in self.evaluated_at:
            self.evaluate()

    def _is_logged(self, step: int) -> bool:
        return (self.steps - 1 - step) % self.log_every == 0

    def _lap(self, part: str) -> None:
        if self.accelerator.device.type == "cuda" and self._is_logged(self.step):
            torch.cuda.synchronize()  # otherwise it times only kernel launches
        self.clock.lap(part)

    def _log(self, lr: float) -> None:
        last = self.curves.columns["step"][-1] if self.curves.columns["step"] else -1
        total: Any = self.accelerator.reduce(self.loss, "mean")
        loss = total.item() / (self.step - 1 - last)
        self.loss.zero_()
        self.curves.add(self.step - 1, loss, lr)
        angles = self.options.angles
        has_ended = angles is not None and len(angles) <= self.step < self.steps  # it diverged
        self.diverged = has_ended or not math.isfinite(loss)

    # ---- results

    def evaluate(self) -> dict[str, float]:
        """The task's metrics on the split of this trial's phase; NaN if the model diverged."""
        split = self.task.splits[PHASES[self.spec.phase]]
        # processes that share weights predict all batches, because they gather weights together
        share = ProcessShare() if self.sharded else self.share
        metrics = score(self.task, split, self.model, self.accelerator, share, self.clock)
        seconds = self.clock.seconds
        self.scores["step"].append(self.step)
        self.scores["time_s"].append(round(sum(seconds.values()) - seconds["evaluation"], 4))
        self.scores["score"].append(metrics[self.task.metric.name])
        return metrics

    def _record(self) -> Record:
        metrics = {} if self.diverged else self.evaluate()
        self.diverged |= not all(map(math.isfinite, metrics.values()))
        metric, seconds = self.task.metric, self.clock.seconds
        loss = metrics.get("loss", self.curves.last("loss"))
        return {
            "score": metric.chance_score if self.diverged else metrics[metric.name],
            "metrics": metrics,
            "loss": math.inf if self.diverged else loss,
            "diverged": self.diverged,
            "steps": self.step,
            "step_s": sum(seconds[name] for name in ("forward", "backward", "step")) / self.step,
            "optimizer_s": seconds["step"] / self.step,
            "seconds": {**seconds, "total": sum(seconds.values())},
            "scores": self.scores,
            **self.curves.record(),
            "angles": angles_text(self.recorder.angles) if self.recorder else None,
        }

    # ---- checkpoints

    def _save_if_due(self) -> None:
        """Save a checkpoint if it is time, or if the trial stops.

        Several processes decide this together, and only at logged steps.
        """
        several = self.share.processes > 1
        if self.diverged or (several and not self._is_logged(self.step)):
            return  # checkpoints do not store that a trial diverged; it ends anyway
        due = time.monotonic() - self.saved_at >= self.options.checkpoint_s
        stop = self.options.stop()
        if several:
            stop, due = distributed.value_of_first_process((stop, due))
        if self.step < self.steps and (stop or due):
            self._save()
        if stop:
            raise TrialStopped

    def _save(self) -> None:
        if self.options.folder is None:
            return
        trained = (self.accelerator, self.model, self.optimizer)
        state = checkpoint.state_of(*trained, sharded=self.sharded) | {
            "step": self.step,
            "loss": self.loss,
            "curves": {"columns": self.curves.columns, "layers": self.curves.layers},
            "scores": self.scores,
            "seconds": self.clock.seconds,
            "angles": self.recorder.angles if self.recorder else [],
        }
        self.saved_at = time.monotonic()
        if self.accelerator.is_main_process:
            try:
                checkpoint.save(self.options.folder, state)
            except OSError as error:  # the older checkpoints are unchanged
                warnings.warn(f"checkpoint not saved, training continues: {error}", stacklevel=2)

    def _restore(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        loaded = checkpoint.load(self.options.folder) if self.options.folder else None
        state = distributed.value_of_first_process(loaded)
        if state is None:
            return
        if state["step"] > self.handover_step:
            self._hand_over()
        trained = (self.accelerator, self.model, self.optimizer)
        checkpoint.restore_state(*trained, state, sharded=self.sharded)
        self.step, self.scores = state["step"], state["scores"]
        self.clock.seconds = state["seconds"]
        self.loss.copy_(state["loss"])
        if self.recorder:
            self.recorder.angles = state["angles"]
        curves = state["curves"]
        self.curves.columns, self.curves.layers = curves["columns"], curves["layers"]
