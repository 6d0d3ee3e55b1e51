"""The first steps of every optimizer on a study's own task, before the study starts."""

import time
from statistics import median
from typing import NamedTuple

import torch

from tangential_lab import training
from tangential_lab.studies import schedule
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.workers.worker import entry_for
from tangential_lab.training import Spec, Task

STEPS, MOST_STEPS = 3, 20  # of every optimizer; the first one is not timed
LEAST_S = 0.5  # of every optimizer's steps together, unless they are `MOST_STEPS`


class Estimate(NamedTuple):
    """How long the training steps of a study take, without its evaluations."""

    trial_s: float  # a mean over the optimizers
    trials: int  # that are known to run

    @property
    def core_hours(self) -> float:
        """Hours of all trials, one after the other."""
        return self.trial_s * self.trials / 3600


def rehearse(plan: Plan, task: Task) -> Estimate:
    """Run a few steps of every optimizer; return how long the study will take.

    Raises:
        ValueError: an optimizer cannot be built for this model, or cannot step.
    """
    first = {spec.optimizer: spec for spec in schedule.trials(plan, {})}
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.settings["threads"])  # as a worker has
    try:
        with torch.random.fork_rng():
            times = [_trial_s(plan, task, spec) for spec in first.values()]
    finally:
        torch.set_num_threads(threads)
    return Estimate(sum(times) / len(times), schedule.size(plan, {}))


def _trial_s(plan: Plan, task: Task, spec: Spec) -> float:
    """The time of a trial of this optimizer."""
    from accelerate.utils import send_to_device  # loading Accelerate takes a second

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    torch.manual_seed(0)
    model = task.model().to(device or "cpu")
    invariant = frozenset(plan.invariant)
    groups = training.split_groups(task, model, invariant, spec.values.get("lr"))
    share, step_s = training.ProcessShare(0, 1), list[float]()
    batches = training.training_batches(task._replace(loader_workers=0), 0, 0, share)
    try:
        optimizer = entry_for(plan, spec).build(groups, **spec.values)
        while len(step_s) < STEPS or (sum(step_s) < LEAST_S and len(step_s) < MOST_STEPS):
            batch, start = next(batches), time.perf_counter()
            optimizer.zero_grad()
            task.loss(model, send_to_device(batch, device)).backward()
            optimizer.step()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            step_s.append(time.perf_counter() - start)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{spec.optimizer} cannot train {plan.title}: {training.describe_error(error)}. Leave "
            "it out of --optimizers, or let your own optimizer (--optimizer) give it only the "
            "weights that it can train, and another one the rest, as docs/own_optimizer.md shows"
        ) from error
    return plan.steps * median(step_s[1:])
