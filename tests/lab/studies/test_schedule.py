"""Which trials a study has: its search, its tests, its runner-ups."""

import math
from itertools import pairwise
from zlib import crc32

import pytest
from planned import LR, STEPS, plan_of, scored

from tangential_lab.studies import PlannedOptimizer, schedule, tuning
from tangential_lab.studies.search import Widening, points_around, quasi_random_points
from tangential_lab.training import OPTIMIZERS, Metric

TUNED = {name: entry for name, entry in OPTIMIZERS.items() if not entry.leader}


def over_run(name, point):
    """What the weight decay does over a run: ten times as much under SGD's momentum of .9."""
    times = 10 if OPTIMIZERS[name].family == "sgd" and name != "sgd-plain" else 1
    return point["lr"] * point["weight_decay"] * STEPS * times


def finished(plan, score):
    """Records of all trials of a study; `score` maps a spec to its score."""
    records = {}
    while specs := schedule.missing(plan, records):
        records |= {spec: scored(score(spec)) for spec in specs}
    return records


def peak(lr=0.1, decay=0.3):
    """Scores that fall with the distance from a decay and a (relative) learning rate."""

    def score(spec):
        family = OPTIMIZERS[spec.optimizer].family
        rate = math.log(spec.values["lr"] / LR[family] / lr, 3)
        return 0.9 - 0.01 * rate**2 - 0.01 * abs(over_run(spec.optimizer, spec.values) - decay)

    return score


# ---- the search


@pytest.mark.parametrize(
    ("trials", "rates", "decays"),
    [(1, 1, 1), (4, 4, 1), (6, 3, 2), (8, 4, 2), (9, 3, 3), (15, 5, 3), (14, 4, 3)],
)
def test_a_small_search_is_a_centred_grid(trials, rates, decays):
    plan = plan_of(trials=trials)
    specs = [s for s in tuning.tuning_trials(plan, {}) if s.optimizer == "sgdp" and s.seed == 0]
    lrs = sorted({s.values["lr"] for s in specs})
    assert len(lrs) == rates
    assert len(specs) == rates * decays <= trials
    assert sum(lr < LR["sgd"] for lr in lrs) - sum(lr > LR["sgd"] for lr in lrs) in (0, 1)
    assert LR["sgd"] in lrs
    assert all(b / a == pytest.approx(3, rel=1e-3) for a, b in pairwise(lrs))
    expected = [0, 0.3, 3][:decays]
    for lr in lrs:
        found = sorted(over_run("sgdp", s.values) for s in specs if s.values["lr"] == lr)
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("trials", [9, 16])
def test_all_optimizers_are_tuned_equally(trials):
    plan = plan_of(trials=trials)
    specs = tuning.tuning_trials(plan, {})
    assert len(specs) == len(set(specs)) == trials * 2 * len(TUNED)
    relative = {
        name: sorted(
            (s.seed, s.values["lr"] / LR[optimizer.family], over_run(name, s.values))
            for s in specs
            if s.optimizer == name
        )
        for name, optimizer in TUNED.items()
    }
    for points in relative.values():
        assert [x for p in points for x in p] == pytest.approx(
            [x for p in relative["sgd"] for x in p], rel=2e-3
        )
    assert {seed for seed, *_ in relative["sgd"]} == {0, 1}


def test_sixteen_points_are_quasi_random_in_lr_and_in_what_the_decay_does():
    points = points_around({"lr": 0.1}, STEPS, 16)
    for values, low, high in (
        ([p["lr"] for p in points], 0.01, 1.0),
        ([p["lr"] * p["weight_decay"] * STEPS for p in points], 0.01, 3.0),
    ):
        shares = sorted(math.log(value / low) / math.log(high / low) for value in values)
        assert all(i / 16 - 1e-3 <= x <= (i + 1) / 16 + 1e-3 for i, x in enumerate(shares))


def test_quasi_random_points_are_a_prefix():
    space = {"lr": (1e-3, 1.0), "weight_decay": (1e-5, 1e-1)}
    assert quasi_random_points(space, 16)[:5] == quasi_random_points(space, 5)


def test_an_optimizer_without_settings_has_one_point():
    bare = PlannedOptimizer("x", "x", None, "#fff000", {}, {})
    plan = plan_of(optimizers={"bare": bare}, undecayed=False)
    assert [spec.seed for spec in tuning.tuning_trials(plan, {})] == [0, 1]
    assert schedule.size(plan, {}) == 2 + 3


# ---- at the edge


@pytest.mark.parametrize("lr", [1 / 9, 9.0])
def test_the_grid_is_widened_for_all_until_the_best_point_lies_inside(lr):
    plan = plan_of()
    only = lambda spec: peak(lr if spec.optimizer == "adamp" else 1.0)(spec)
    records = finished(plan, only)
    for name, optimizer in TUNED.items():
        lrs = {s.values["lr"] for s in records if s.optimizer == name and s.phase == "tune"}
        end = min(lrs) if lr < 1 else max(lrs)
        assert len(lrs) == 3 + 2
        assert end == pytest.approx(LR[optimizer.family] * 3 ** math.copysign(3, lr - 1), rel=1e-3)
    best = tuning.best_point(plan, records, "adamp")
    assert best["lr"] == pytest.approx(LR["adam"] * lr, rel=1e-3)
    assert tuning.at_edge(plan, records) == {}
    assert schedule.trials(plan, records) == schedule.trials(plan, dict(reversed(records.items())))


def test_widening_ends_and_the_edge_is_reported():
    plan = plan_of(optimizers={"sgd": plan_of().optimizers["sgd"]}, undecayed=False)
    records = finished(plan, lambda spec: spec.values["lr"] + over_run("sgd", spec.values))
    assert tuning.at_edge(plan, records) == {"sgd": Widening(0, 1, 1)}
    lrs = {spec.values["lr"] for spec in records}
    assert len(lrs) == 3 + 2
    decays = {round(over_run("sgd", spec.values), 2) for spec in records if spec.phase == "tune"}
    assert decays == {0, 0.3, 3, 10}


def test_the_edge_of_quasi_random_points_is_reported_at_a_similar_decay():
    plan = plan_of(trials=16)
    records = finished(plan, lambda spec: -spec.values["lr"])
    assert set(tuning.at_edge(plan, records)) == set(TUNED)
    assert tuning.at_edge(plan, records)["sgd"] == Widening(lower=1)


def test_a_sweep_is_not_widened_and_has_no_test():
    plan = plan_of(sweep=True, seeds=0, tuning_seeds=3, undecayed=False)
    records = finished(plan, lambda spec: spec.values["lr"])
    assert len(records) == 9 * 3 * len(TUNED) == schedule.size(plan, {})
    assert {spec.phase for spec in records} == {"tune"}


# ---- the choice


def test_the_best_point_has_the_best_mean_over_seeds():
    plan = plan_of()
    lucky = lambda spec: 0.99 if (spec.seed, spec.values["lr"]) == (1, LR["sgd"]) else 0.5
    steady = lambda spec: 0.8 if spec.values["lr"] < LR["sgd"] else lucky(spec)
    records = {s: scored(steady(s)) for s in tuning.tuning_trials(plan, {})}
    assert tuning.best_point(plan, records, "sgd")["lr"] < LR["sgd"]


def test_a_point_with_a_diverged_seed_ranks_last_and_lower_may_be_better():
    plan = plan_of(metric=Metric("perplexity", "", 100.0, higher_is_better=False))
    specs = [s for s in tuning.tuning_trials(plan, {}) if s.optimizer == "sgd"]
    records = {s: scored(10 - s.values["lr"]) for s in specs}
    highest = max(s.values["lr"] for s in specs)
    assert tuning.best_point(plan, records, "sgd")["lr"] == highest
    for spec in specs:
        if spec.values["lr"] == highest and spec.seed == 1:
            records[spec] = scored(0.0, diverged=True)
    assert tuning.best_point(plan, records, "sgd")["lr"] < highest
    assert tuning.ranking(plan, records, "sgd")[-1].diverged


# ---- the test


def test_test_trials_are_paired_and_their_seeds_are_new():
    plan = plan_of()
    records = finished(plan, peak(1.0))
    tests = [spec for spec in records if spec.phase == "test"]
    for name in OPTIMIZERS:
        assert [s.seed for s in tests if s.optimizer == name] == [1000, 1001, 1002]
        assert {s.values["lr"] for s in tests if s.optimizer == name} == {
            LR[OPTIMIZERS[name].family]
        }
    assert not {s.seed for s in tests} & {s.seed for s in records if s.phase == "tune"}


def test_undecayed_trials_are_at_the_baselines_lr():
    records = finished(plan_of(), peak(1.0))
    for spec in records:
        if spec.phase == "undecayed":
            assert spec.values == {"lr": LR[OPTIMIZERS[spec.optimizer].family], "weight_decay": 0}


def test_an_undecayed_trial_keeps_its_own_lr_if_its_baseline_has_none():
    known = plan_of().optimizers["sgd"]
    optimizers = {
        "sgd": known._replace(space={"scale": (0.1, 1.0)}, published={"scale": 0.5}),
        "sgdp": known._replace(baseline="sgd", published={"lr": 0.2, "weight_decay": 1e-4}),
    }
    specs = schedule.trials(plan_of(optimizers=optimizers, trials=0, seeds=1), {})
    assert [s.values for s in specs if s.phase == "undecayed"] == [
        {"scale": 0.5}, {"lr": 0.2, "weight_decay": 0.0}
    ]  # fmt: skip


def test_without_tuning_optimizers_run_at_the_published_settings():
    plan = plan_of(trials=0, seeds=1, undecayed=False)
    specs = schedule.trials(plan, {})
    assert {s.phase for s in specs} == {"test"}
    assert all(s.values == plan.optimizers[s.optimizer].published for s in specs)


# ---- the runner-ups


def pair(**changes):
    optimizers = {name: plan_of().optimizers[name] for name in ("sgd", "sgdp")}
    return plan_of(optimizers=optimizers, undecayed=False, seeds=8, **changes)


def noisy(gap, ahead="sgdp"):
    """Scores of a flat surface with noise; one optimizer is better by `gap` in the test."""

    def score(spec):
        noise = crc32(repr(spec).encode()) / 2**31 - 1
        return 0.8 + 0.001 * noise + gap * (spec.optimizer == ahead and spec.phase == "test")

    return score


def test_an_optimizer_that_is_behind_gets_its_runner_ups_tested():
    for ahead, behind in (("sgdp", "sgd"), ("sgd", "sgdp")):
        records = finished(pair(), noisy(0.05, ahead))
        more = [spec for spec in records if spec.phase == "runner-up"]
        points = {spec.point for spec in more}
        assert {spec.optimizer for spec in more} == {behind}
        assert 1 <= len(points) <= schedule.RUNNER_UPS
        assert tuple(tuning.best_point(pair(), records, behind).items()) not in points
        assert {spec.seed for spec in more} == set(range(1000, 1008))


def test_without_a_difference_or_with_few_seeds_there_are_no_runner_ups():
    equal = lambda spec: 0.8 + 0.001 * (spec.seed % 3)
    for plan, score in ((pair(), equal), (pair()._replace(seeds=7), noisy(0.05))):
        assert not [s for s in finished(plan, score) if s.phase == "runner-up"]


def test_a_point_that_tuning_rules_out_is_no_runner_up():
    score = lambda spec: noisy(0.05)(spec) - 0.1 * abs(math.log(spec.values["lr"] / 0.1))
    more = [s for s in finished(pair(), score) if s.phase == "runner-up"]
    assert {spec.values["lr"] for spec in more} <= {0.1}
