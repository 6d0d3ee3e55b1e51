"""A study that nobody ran: a plan, and records drawn at random in the shape of real ones."""

import math
import random

from tangential_lab.reports import report
from tangential_lab.studies import Plan, PlannedOptimizer, schedule
from tangential_lab.training import Metric

ACCURACY = Metric("accuracy", "%", 0.1)
PERPLEXITY = Metric("perplexity", "", 1e4, higher_is_better=False)
SPACES = {
    "sgd": {"lr": (2e-3, 2.0), "weight_decay": (1e-5, 1e-1)},
    "adam": {"lr": (1e-4, 1e-1), "weight_decay": (1e-5, 1e-1)},
}
OPTIMIZERS = {
    "sgd": PlannedOptimizer("", "torch SGD", None, "#1d99c5", SPACES["sgd"], {"lr": 0.1}),
    "sgdp": PlannedOptimizer("", "SGDP", "sgd", "#032aae", SPACES["sgd"], {"lr": 0.1}),
    "adam": PlannedOptimizer("", "torch Adam", None, "#7f7f78", SPACES["adam"], {"lr": 0.01}),
    "adamw": PlannedOptimizer("", "torch AdamW", None, "#d67d07", SPACES["adam"], {"lr": 0.01}),
    "adamp": PlannedOptimizer("", "AdamP", "adamw", "#af0401", SPACES["adam"], {"lr": 0.01}),
    "adamp-matched": PlannedOptimizer(
        "", "AdamP, wd_ratio 1/19", "adamw", "#842f73", SPACES["adam"], {"lr": 0.01}
    ),
}
SKILL = {"sgd": 0.93, "sgdp": 0.945, "adam": 0.92, "adamw": 0.94, "adamp": 0.955}
LAYERS = [f"layer{i}.{j}.conv{k}.weight" for i in (1, 2, 3) for j in (0, 1) for k in (1, 2)]


def plan(
    optimizers=tuple(OPTIMIZERS), *, metric=ACCURACY, trials=8, seeds=5, undecayed=True, **own
):
    """Of optimizers by name, or of a dict of contenders."""
    if not isinstance(optimizers, dict):
        optimizers = {name: OPTIMIZERS[name] for name in optimizers}
    fields = {
        "task": "digits",
        "options": {"preset": "mini"},
        "about": "8 x 8 pictures of digits, a net of three convolutions with BatchNorm",
        "data": ["digits of scikit-learn, 1,797 pictures", "0" * 64],
        "metric": metric,
        "optimizers": optimizers,
        "trials": trials,
        "tuning_seeds": 1,
        "sweep": False,
        "seeds": seeds,
        "undecayed": undecayed,
        "epochs": 30,
        "batch_size": 64,
        "steps": 600,
        "invariant": LAYERS,
        "settings": {"precision": "no", "threads": 1},
    }
    return Plan(**fields | own)


def finished(plan, *, steps=600, logs=60, names=LAYERS, **changed):
    """Records of all trials of a plan; `changed` maps an optimizer to what its test seeds have."""
    records = {}
    draws = {name: random.Random(i) for i, name in enumerate(plan.optimizers)}
    while specs := schedule.missing(plan, records):
        for spec in specs:
            skill, draw = SKILL.get(spec.optimizer, 0.95), draws[spec.optimizer]
            if spec.phase == "tune":
                rate = math.log10(spec.values.get("lr", 0.1)) + (
                    1 if "sgd" in spec.optimizer else 2
                )
                lost = sum(s.optimizer == spec.optimizer for s in records) == 3
                score = skill - 0.02 * rate**2
                made = record(plan, spec, draw, score, steps, logs, [], diverged=lost)
            else:
                made = record(plan, spec, draw, skill, steps, logs, names)
            if spec.phase == "test":
                seed = spec.seed - schedule.FIRST_TEST_SEED
                made |= {k: v[seed] for k, v in changed.get(spec.optimizer, {}).items()}
            records[spec] = made
    return records


def scored(*, metric=ACCURACY, seeds=8, **scores):
    """A report whose test seeds have these scores, a list for each optimizer."""
    planned = plan(tuple(scores), metric=metric, trials=0, seeds=seeds, undecayed=False)
    changed = {name: {"score": values} for name, values in scores.items()}
    return report(planned, finished(planned, logs=10, **changed))


def of_task(task, **changes):
    """The report of a small study of this task."""
    planned = plan(trials=3, seeds=3, undecayed=False, task=task, **changes)
    return report(planned, finished(planned))


def on_a_grid(**changes):
    """A study whose optimizers are searched on a grid."""
    names = ("sgd", "sgdp", "adamw", "adamp")
    optimizers = {
        name: OPTIMIZERS[name]._replace(
            space=None, published=OPTIMIZERS[name].published | {"weight_decay": 1e-4}
        )
        for name in names
    }
    planned = plan(optimizers, undecayed=False, **changes)
    return report(planned, finished(planned))


def row_of(result, optimizer):
    """The row of an optimizer in a report."""
    return next(row for row in result.rows if row.optimizer == optimizer)


def large():
    """The report of 200 trials of 500 points, 150 of them with 60 layers."""
    whole = plan(trials=8, seeds=13)
    names = [f"stage{i // 10}.block{i % 10}.conv.weight" for i in range(60)]
    return report(whole, finished(whole, steps=5000, logs=500, names=names))


def record(plan, spec, draw, skill, steps=600, logs=60, names=(), *, diverged=False):
    """One trial's record."""
    mine = spec.optimizer.removeprefix("adam").removeprefix("sgd").startswith("p")  # projected
    at = sorted({round(steps * (i + 1) / logs) - 1 for i in range(logs)})
    shares = [step / steps for step in at]
    noise = lambda size: 1 + draw.gauss(0, size)
    grown = 0.2 if mine else 1.5
    lr = spec.values.get("lr", 0.1)
    final = (
        plan.metric.chance_score if diverged else _score(plan.metric, skill + draw.gauss(0, 0.004))
    )
    evaluated = [(i + 1) / 10 for i in range(10)] if spec.phase != "tune" else [1.0]
    along = [_toward(plan.metric, final, share) for share in evaluated]
    step_s = (0.0125 if mine else 0.0121) * noise(0.01)
    norms = [(1 + grown * share**0.5) * noise(0.003) for share in shares]
    turns = [
        0.02 * (1 - 0.9 * share) / norm**2 * noise(0.03)
        for share, norm in zip(shares, norms, strict=True)
    ]
    return {
        "score": final,
        "metrics": {plan.metric.name: final, "loss": 0.2 * noise(0.05), "top 5": 0.99},
        "loss": math.inf if diverged else 0.2 * noise(0.05),
        "diverged": diverged,
        "steps": steps,
        "norm": norms[-1],
        "effective_step": sum(turns) / len(turns),
        "memory_share": (0.04 if mine else 0.46) * noise(0.02),
        "step_s": step_s,
        "optimizer_s": step_s * (0.12 if mine else 0.1),
        "seconds": {"forward": 3.0, "backward": 3.5, "step": 0.8, "evaluation": 0.4, "other": 0.2}
        | {"total": 7.9},
        "curves": {
            "step": at,
            "loss": [(2.3 * math.exp(-4 * share) + 0.05) * noise(0.08) for share in shares],
            "lr": [lr * (1 + math.cos(math.pi * share)) / 2 for share in shares],
            "norm": norms,
            "effective_step": turns,
            "angle_rad": [0.97 * turn for turn in turns],
            "growth_step": [4e-4 * noise(0.1) for _ in at],
            "growth_memory": [(2e-5 if mine else 4e-4) * noise(0.1) for _ in at],
            "growth_decay": [(0.0 if spec.phase == "undecayed" else -1.5e-4) for _ in at],
        },
        "scores": {
            "step": [round(steps * share) for share in evaluated],
            "time_s": [round(steps * share * step_s, 4) for share in evaluated],
            "score": along,
        },
        "layers": _layers(draw, at, turns, norms, names) if names else None,
        "provenance": {
            "versions": {"tangential": "0.1.0", "torch": "2.14.1", "python": "3.11.2"},
            "commit": "0123456789ab",
            "kernel": "avx2 0123456789ab",
            "machine": "Linux, 2 cores",
            "command": "tangential compare digits",
            "time": f"2026-01-01T00:00:{spec.seed % 60:02}Z",
            "seeds": {"model": spec.seed, "data": spec.seed},
            "data": "digits of scikit-learn, 1,797 pictures",
            "precision": "no",
            "processes": 1,
        },
    }


def _score(metric, skill):
    return skill if metric.higher_is_better else 20 + 100 * (1 - skill)


def _toward(metric, final, share):
    return final + (metric.chance_score - final) * math.exp(-6 * share) * (1 - share)


def _layers(draw, at, turns, norms, names):
    bias = [0.3 + 2 * draw.random() for _ in names]
    return {
        "step": at,
        "names": list(names),
        "norm": [[norm * b for b in bias] for norm in norms],
        "effective_step": [[turn * b for b in bias] for turn in turns],
    }
