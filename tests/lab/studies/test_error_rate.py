"""How often two equal optimizers are called different, after tuning, choice and test."""

import math
import random

import made_study as made
import pytest

from tangential_lab.reports import report
from tangential_lab.studies import schedule, tuning

pytestmark = pytest.mark.slow

NOISE = 0.01  # standard deviation of a score over seeds
SHARED = 0.5  # of its variance: initialisation and batches are the same for all optimizers
SURFACES = {  # by learning rate and decay: loss of score, in units of the noise
    "flat": lambda rate, decay: 0.0,
    "gentle": lambda rate, decay: 0.1 * rate**2 + 0.1 * decay,
    "tilted": lambda rate, decay: 0.3 * (rate - 0.5) ** 2 + 0.3 * decay,
    "sharp": lambda rate, decay: 0.5 * rate**2 + 0.5 * decay,
    "steep": lambda rate, decay: 1.0 * (rate - 0.5) ** 2 + 0.3 * decay,
    "peaked": lambda rate, decay: 2.0 * rate**2 + 1.0 * decay,
}


def result(plan, surface, draw):
    """A study in which all optimizers have the same scores, apart from the noise of each seed."""
    records, shared = {}, {}
    while specs := schedule.missing(plan, records):
        for spec in specs:
            lr, decay = spec.values["lr"], spec.values["weight_decay"]
            rate = math.log(lr / 0.1, 3)
            level = (0.0, 0.3, 3.0, 10.0).index(float(f"{lr * decay * plan.steps * 10:.1g}"))
            common = shared.setdefault((spec.seed, spec.phase == "tune"), draw.gauss(0, 1))
            noise = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * draw.gauss(0, 1)
            score = 0.8 + NOISE * (noise - surface(rate, level))
            records[spec] = RECORD | {"score": score}
    return report(plan, records)


RECORD = made.record(made.plan(), tuning.tuning_trials(made.plan(), {})[0], random.Random(0), 0.9)


def error_rate(surface, studies, seeds, baselines=("sgd",)):
    """The share of studies in which SGDP is called different from a baseline."""
    names = {
        name: made.OPTIMIZERS[name]._replace(space=None, decay_multiplier=10.0)
        for name in (*baselines, "sgdp")
    }
    own = {"tuning_seeds": 2, "invariant": [], "chosen_baselines": {"sgdp": [*baselines]}}
    plan = made.plan(names, trials=15, seeds=seeds, undecayed=False, **own)
    draw = random.Random(0)
    claims = 0
    for _ in range(studies):
        findings = result(plan, surface, draw).findings
        assert len(findings) == len(baselines)
        claims += any(finding.side in ("ahead", "behind") for finding in findings)
    return claims / studies


@pytest.mark.parametrize(
    ("surface", "seeds"), [*((surface, 8) for surface in SURFACES), ("tilted", 16)]
)
def test_equal_optimizers_are_seldom_called_different(surface, seeds):
    assert error_rate(SURFACES[surface], 200, seeds) <= 0.06


def test_two_baselines_do_not_double_the_errors():
    assert error_rate(SURFACES["tilted"], 200, 8, ("sgd", "adam")) <= 0.06
