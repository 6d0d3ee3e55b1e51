"""A plan of all our optimizers, and made-up records for it."""

from tangential_lab.studies import Plan, PlannedOptimizer
from tangential_lab.training import OPTIMIZERS, Metric

LR = {"sgd": 0.1, "adam": 1e-3}  # published
STEPS = 1000


def plan_of(**changes):
    optimizers = {
        name: PlannedOptimizer(
            "",
            r.about,
            r.baseline(OPTIMIZERS),
            r.colour,
            None,
            {"lr": LR[r.family], "weight_decay": 1e-4},
            r.decay_multiplier,
            r.differs_by_decay,
            r.leader,
        )
        for name, r in OPTIMIZERS.items()
    }
    usual = Plan(
        task="digits", options={}, about="a", data=["d", "0"],
        metric=Metric("accuracy", "%", 0.1), optimizers=optimizers, trials=9, tuning_seeds=2,
        sweep=False, seeds=3, undecayed=True, epochs=1.0, batch_size=64, steps=STEPS,
        invariant=[], settings={},
    )  # fmt: skip
    return usual._replace(**changes)


def scored(score, *, diverged=False):
    return {"score": score, "loss": 1 - score, "diverged": diverged}
