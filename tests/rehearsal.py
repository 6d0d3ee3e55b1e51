"""A task's first steps, as the loop takes them: training, evaluation, a checkpoint."""

import math

import torch

from tangential import AdamP


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
        for indices in task.order(len(task.splits["train"]), task.batch_size, drawn):
            batch = task.splits["train"].__getitems__(indices.tolist())
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    return model, losses


def scored(task, model, split="report"):
    """The model's metrics."""
    data = task.splits[split]
    model.eval()
    with torch.no_grad():
        batches = torch.arange(len(data)).split(task.evaluation_batch)
        predictions = [task.predict(model, data.__getitems__(i.tolist())) for i in batches]
    return task.score(predictions)


def rehearse(task, folder):
    """Two steps, scores, a checkpoint; the scores, once all has been seen to work."""
    model, losses = trained(task, 2)
    assert all(map(math.isfinite, losses))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    scores = {split: scored(task, model, split) for split in ("tune", "report")}
    assert all(task.metric.name in metrics for metrics in scores.values())
    torch.save(model.state_dict(), folder / "checkpoint.pt")
    again = task.model()
    again.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True))
    assert scored(task, again) == scores["report"]
    return scores
