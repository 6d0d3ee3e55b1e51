"""The plan of a study: which trials it has, and what decides each of them."""

import math

import pytest

from tangential_lab import experiments
from tangential_lab.studies import (
    Plan,
    PlannedOptimizer,
    entry_for,
    quasi_random_points,
)
from tangential_lab.studies.study import planned_optimizer
from tangential_lab.training import OPTIMIZERS, Metric, Spec, space_around, user_optimizer

SPACES = {"sgd": space_around({"lr": 0.1}), "adam": space_around({"lr": 1e-3})}

HEAVY = """
from torch.optim import SGD

def heavy(params, lr, momentum):
    return SGD(params, lr=lr, momentum=momentum)

heavy.space = {"lr": (1e-3, 1e-1), "momentum": (0.5, 0.99)}
"""


def plan_of(**changes):
    optimizers = {
        name: PlannedOptimizer("", r.about, r.baseline, r.colour, SPACES[r.family], {"lr": 0.1})
        for name, r in OPTIMIZERS.items()
    }
    usual = Plan(
        *("digits", {}, "a", ["d", "0"], Metric("accuracy", "%", 0.1), optimizers, 8, 3, True),
        *(1.0, 64, [], {}),
    )
    return usual._replace(**changes)


def tuned_records(plan):
    """Made-up tuning: the third point is best for all optimizers but sgdp (the fifth)."""
    records = {}
    for i, spec in enumerate(plan.tuning_trials()):
        best = 4 if spec.optimizer == "sgdp" else 2
        score = 0.99 if i // len(OPTIMIZERS) == best else 0.5
        records[spec] = {"score": score, "loss": 1 - score, "diverged": False}
    return records


def test_every_entry_of_a_family_tunes_over_the_same_points():
    plan = plan_of()
    tried = {
        name: [s.point for s in plan.tuning_trials() if s.optimizer == name] for name in OPTIMIZERS
    }
    for name, optimizer in OPTIMIZERS.items():
        assert tried[name] == tried[optimizer.family]
        assert len(set(tried[name])) == 8
    shares = [
        [math.log(dict(p)["lr"] / low) / math.log(high / low) for p in tried[family]]
        for family, (low, high) in ((f, s["lr"]) for f, s in SPACES.items())
    ]
    assert shares[0] == pytest.approx(shares[1], abs=1e-3)


def test_optimizers_are_searched_around_the_published_lr_of_their_family():
    task = experiments.make("digits", None, {})
    for name in ("sgdp", "adamp"):
        found = planned_optimizer(task, OPTIMIZERS[name], "")
        low, high = found.space["lr"]
        assert math.sqrt(low * high) == pytest.approx(found.published["lr"])
        assert high / low == pytest.approx(100)


def test_test_trials_are_paired_and_their_seeds_are_new():
    plan = plan_of()
    records = tuned_records(plan)
    reported = plan.test_trials(records)
    assert plan.size == len(plan.tuning_trials()) + len(reported) == len(OPTIMIZERS) * (8 + 2 * 3)
    for name, optimizer in OPTIMIZERS.items():
        mine = [s for s in reported if s.optimizer == name and s.phase == "test"]
        assert [s.seed for s in mine] == [1000, 1001, 1002]
        assert {s.values["lr"] for s in mine} == {
            quasi_random_points(SPACES[optimizer.family], 8)[4 if name == "sgdp" else 2]["lr"]
        }
    assert not {s.seed for s in reported} & {s.seed for s in plan.tuning_trials()}


def test_undecayed_runs_are_at_the_baselines_lr():
    plan = plan_of()
    reported = plan.test_trials(tuned_records(plan))
    lr = {family: quasi_random_points(space, 8)[2]["lr"] for family, space in SPACES.items()}
    for spec in reported:
        if spec.phase == "undecayed":
            assert spec.values["weight_decay"] == 0
            assert spec.values["lr"] == lr[OPTIMIZERS[spec.optimizer].family]


def test_without_tuning_optimizers_run_at_the_published_settings():
    plan = plan_of(trials=0, seeds=1, undecayed=False)
    assert [s.point for s in plan.next_trials({})] == [(("lr", 0.1),)] * len(OPTIMIZERS)


def test_diverged_trials_rank_last_and_lower_may_be_better():
    good, bad = ({"score": s, "loss": s, "diverged": False} for s in (0.9, 0.1))
    lost = {"score": 1.0, "loss": 0.0, "diverged": True}
    rank = plan_of().rank
    assert rank(good) > rank(bad) > rank(lost)
    rank = plan_of(metric=Metric("perplexity", "", 100.0, higher_is_better=False)).rank
    assert rank(bad) > rank(good) > rank(lost)


def test_points_are_a_log_uniform_prefix():
    space = {"lr": (1e-3, 1.0), "weight_decay": (1e-5, 1e-1)}
    assert quasi_random_points(space, 16)[:5] == quasi_random_points(space, 5)
    for name, (low, high) in space.items():
        values = sorted(point[name] for point in quasi_random_points(space, 16))
        shares = [math.log(v / low) / math.log(high / low) for v in values]
        assert all(i / 16 <= share <= (i + 1) / 16 for i, share in enumerate(shares))


def test_whatever_decides_a_trial_is_in_its_key():
    plan = plan_of()
    spec = plan.tuning_trials()[0]
    changes = {
        "task": "t", "options": {"a": 1}, "data": ["d", "1"], "epochs": 2.0,
        "settings": {"precision": "bf16"},
    }  # fmt: skip
    keys = {plan.key(spec), plan.key(spec._replace(seed=7)), plan.key(plan.tuning_trials()[1])}
    keys |= {plan._replace(**{name: value}).key(spec) for name, value in changes.items()}
    assert len(keys) == 3 + len(changes)
    assert plan._replace(trials=99, seeds=9, about="other").key(spec) == plan.key(spec)


def test_how_an_optimizer_is_shown_is_not_in_the_key_of_its_trials():
    plan = plan_of()
    spec = plan.tuning_trials()[0]
    shown = plan.optimizers[spec.optimizer]._replace(about="in other words", colour="#000000")
    others = plan.optimizers | {spec.optimizer: shown}
    assert plan._replace(optimizers=others).key(spec) == plan.key(spec)
    keys = {  # but of a user's optimizer, `about` has the fingerprint of its code
        plan._replace(optimizers=plan.optimizers | {spec.optimizer: users}).key(spec)
        for users in (shown._replace(source="m:f", about=f"m:f ({x})") for x in ("12ab", "34cd"))
    }
    assert len(keys) == 2


def test_a_study_refuses_an_optimizer_that_has_changed(tmp_path):
    (tmp_path / "mine.py").write_text(HEAVY)
    source = f"{tmp_path}/mine.py:heavy"
    mine = user_optimizer(0, "heavy", source)
    known = PlannedOptimizer(source, mine.about, "sgd", "#fff", mine.space, {"lr": 0.1})
    plan, spec = plan_of(optimizers={"heavy": known}), Spec("heavy", "tune", 0, (("lr", 0.1),))
    assert entry_for(plan, spec).about == mine.about
    (tmp_path / "mine.py").write_text(HEAVY + "# better\n")
    with pytest.raises(
        ValueError, match=r"optimizer 'heavy' was .*mine.py:heavy \(.*start the study"
    ):
        entry_for(plan, spec)


def test_an_optimizer_without_a_search_space_has_one_tuning_trial(tmp_path):
    bare = PlannedOptimizer("x", "x", None, "#fff", {}, {})
    plan = plan_of(optimizers={"bare": bare}, undecayed=False)
    assert len(plan.tuning_trials()) == 1
    records = {
        spec: {"score": 1.0, "loss": 0.0, "diverged": False} for spec in plan.tuning_trials()
    }
    assert len(records) + len(plan.next_trials(records)) == plan.size == 1 + 3
