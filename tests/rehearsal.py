"""A task's first steps: training, evaluation, a stop and what follows it."""

import math

import pytest
import torch

from tangential import AdamP
from tangential_lab.training import OPTIMIZERS, Spec, steps_per_epoch
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped

TIMED = {"seconds", "step_s", "optimizer_s"}


def count(model):
    """Number of weights."""
    return sum(p.numel() for p in model.parameters())


def trained(task, steps, seed=0):
    """The model and the losses of its first steps, at the task's published point."""
    torch.manual_seed(seed)
    model = task.model()
    optimizer = AdamP(task.groups(model), **task.published["adam"])
    drawn, losses = torch.Generator().manual_seed(seed), []
    model.train()
    while len(losses) < steps:
        for indices in task.batch_order(len(task.splits["train"]), task.batch_size, drawn):
            batch = task.splits["train"].__getitems__(indices.tolist())
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    return model, losses


def scored(task, model, split="test"):
    """The model's metrics."""
    data = task.splits[split]
    model.eval()
    with torch.no_grad():
        batches = torch.arange(len(data)).split(task.evaluation_batch_size)
        predictions = [task.predict(model, data.__getitems__(i.tolist())) for i in batches]
    return task.score(predictions)


def rehearse(task, folder):
    """Scores after a trial of two steps; a trial that stops and resumes gives the same."""
    losses = []

    def loss(model, batch):
        value = task.loss(model, batch)
        losses.append(value.item())
        return value

    def other():  # so that a weight which is not restored makes a difference
        torch.manual_seed(1)
        return task.model()

    watched = task._replace(loss=loss)
    whole = trial(watched)
    record = whole.train()
    assert record["steps"] == len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert not record["diverged"]
    assert all(p.grad.isfinite().all() for p in whole.model.parameters() if p.requires_grad)
    with pytest.raises(TrialStopped):
        trial(watched, folder / "checkpoints", stop=lambda: True).train()
    resumed = trial(watched._replace(model=other), folder / "checkpoints")
    assert without_times(resumed.train()) == without_times(record)
    assert losses[:2] == losses[2:]  # one step each
    ends = zip(whole.model.state_dict().items(), resumed.model.state_dict().items(), strict=True)
    assert all(name == same and torch.equal(x, y) for (name, x), (same, y) in ends)
    scores = {"validation": scored(task, whole.model, "validation"), "test": record["metrics"]}
    assert all(task.metric.name in metrics for metrics in scores.values())
    return scores


def trial(task, folder=None, stop=bool, epochs=None):
    """Two steps, or some epochs, at the task's published point."""
    spec = Spec("adamp", "test", 1000, tuple(task.published["adam"].items()))
    run = TrialOptions(epochs=epochs or 2 / steps_per_epoch(task), folder=folder, stop=stop)
    return Trial(task, OPTIMIZERS["adamp"], spec, run)


def without_times(record):
    """A record without what a clock measured."""
    scores = {k: v for k, v in record["scores"].items() if k != "time_s"}
    return {k: v for k, v in record.items() if k not in TIMED} | {"scores": scores}
