"""Which trials a study has: those of its search, then the tests, then the runner-ups.

All functions depend only on the plan and the finished trials, so all workers agree.
"""

from tangential_lab.statistics import MIN_SEEDS, difference
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.tuning import best_point, ranking, tuning_noise, tuning_trials
from tangential_lab.training import Point, Records, Spec

FIRST_TEST_SEED = 1000  # tuning seeds are 0, 1, ...
RUNNER_UPS = 4
NOISE_BAND = 2  # standard errors of the difference of two points


def trials(plan: Plan, records: Records) -> list[Spec]:
    """All trials that are known to belong to the study, given the finished ones.

    First come the tuning trials; once they are finished, the test trials; then the runner-ups.
    The study is complete when all of them are finished.
    """
    specs = tuning_trials(plan, records)
    for stage in (test_trials, runner_up_trials):
        if plan.sweep or any(spec not in records for spec in specs):
            break
        specs = specs + stage(plan, records)
    return specs


def missing(plan: Plan, records: Records) -> list[Spec]:
    """The known trials that are not finished; empty if the study is complete."""
    return [spec for spec in trials(plan, records) if spec not in records]


def ready(plan: Plan, records: Records) -> list[Spec]:
    """The missing trials that can run now: those whose leader has finished, if they have one."""
    needed = {spec: plan.leader_of(spec) for spec in missing(plan, records)}
    return [spec for spec, leader in needed.items() if leader is None or leader in records]


def size(plan: Plan, records: Records) -> int:
    """The number of trials: those that are known, and the test trials to come."""
    known = trials(plan, records)
    if any(spec.phase == "test" for spec in known):
        return len(known)
    return len(known) + len(plan.optimizers) * plan.seeds * (1 + plan.undecayed)


def test_trials(plan: Plan, records: Records) -> list[Spec]:
    """Test trials, on the same seeds for all optimizers: at the best point, then undecayed."""
    best = {name: best_point(plan, records, name) for name in plan.optimizers}
    specs = [Spec(name, "test", 0, tuple(point.items())) for name, point in best.items()]
    if plan.undecayed:
        for name, point in best.items():
            of_baseline = best[plan.first_baseline(name)]
            replaced = {"lr": of_baseline.get("lr", point.get("lr")), "weight_decay": 0.0}
            bare = {setting: replaced.get(setting, value) for setting, value in point.items()}
            specs.append(Spec(name, "undecayed", 0, tuple(bare.items())))
    return _on_test_seeds(plan, specs)


def runner_up_trials(plan: Plan, records: Records) -> list[Spec]:
    """Test trials of the next best points of every optimizer that would be called behind.

    Two tuning seeds may choose a point that is not the best one. So an optimizer is ahead only if
    it also beats every point of the other that its tuning cannot tell from the best one.
    """
    behind = dict.fromkeys(
        loser for pair in plan.comparisons if (loser := _behind(plan, records, *pair))
    )
    specs = [
        Spec(name, "runner-up", 0, tuple(point.items()))
        for name in behind
        for point in runner_ups(plan, records, name)
    ]
    return _on_test_seeds(plan, specs)


def runner_ups(plan: Plan, records: Records, optimizer: str) -> list[Point]:
    """Points that the tuning seeds cannot tell from the best one, at most `RUNNER_UPS`."""
    tuned = [point for point in ranking(plan, records, optimizer) if not point.diverged]
    tuned = tuned[: RUNNER_UPS + 1]
    if not tuned:
        return []
    best, *others = tuned
    least = plan.metric.oriented(best.score) - NOISE_BAND * tuning_noise(tuned)
    return [point.point for point in others if plan.metric.oriented(point.score) >= least]


def _behind(plan: Plan, records: Records, optimizer: str, baseline: str) -> str | None:
    """Which of an optimizer and a baseline scored worse, if the interval excludes 0."""
    if plan.seeds < MIN_SEEDS:
        return None
    gap = difference(*(_test_scores(plan, records, name) for name in (optimizer, baseline)))
    if gap.covers(0):
        return None
    return baseline if plan.metric.oriented(gap.mean) > 0 else optimizer


def _test_scores(plan: Plan, records: Records, optimizer: str) -> list[float]:
    point = tuple(best_point(plan, records, optimizer).items())
    specs = _on_test_seeds(plan, [Spec(optimizer, "test", 0, point)])
    return [records[spec]["score"] for spec in specs]


def _on_test_seeds(plan: Plan, specs: list[Spec]) -> list[Spec]:
    return [s._replace(seed=FIRST_TEST_SEED + i) for i in range(plan.seeds) for s in specs]
