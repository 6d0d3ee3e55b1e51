"""The plan of a study: what it refuses, and what decides each of its trials."""

import pytest
from digits_study import study_request
from planned import plan_of

from tangential_lab import experiments
from tangential_lab.studies import PlannedOptimizer, entry_for, schedule, tuning
from tangential_lab.studies.study import make_plan, planned_optimizer
from tangential_lab.training import OPTIMIZERS, Spec, user_optimizer

HEAVY = """
from torch.optim import SGD

def heavy(params, lr, momentum):
    return SGD(params, lr=lr, momentum=momentum)

heavy.space = {"lr": (1e-3, 1e-1), "momentum": (0.5, 0.99)}
"""


def test_optimizers_are_searched_around_their_published_learning_rate():
    task = experiments.make("digits", None, {})
    for name in ("sgdp", "adamp"):
        planned = planned_optimizer(task, name, OPTIMIZERS[name])
        assert planned.space is None
        assert planned.published["lr"] == task.published[OPTIMIZERS[name].family]["lr"]


def test_the_key_of_a_trial_has_all_that_decides_it():
    plan = plan_of()
    spec = tuning.tuning_trials(plan, {})[0]
    changes = {
        "task": "t", "options": {"a": 1}, "data": ["d", "1"], "epochs": 2.0,
        "settings": {"precision": "bf16"},
    }  # fmt: skip
    keys = {
        plan.key(spec),
        plan.key(spec._replace(seed=7)),
        plan.key(tuning.tuning_trials(plan, {})[1]),
    }
    keys |= {plan._replace(**{name: value}).key(spec) for name, value in changes.items()}
    assert len(keys) == 3 + len(changes)
    assert plan._replace(trials=99, seeds=9, about="other").key(spec) == plan.key(spec)


def test_how_an_optimizer_is_shown_is_not_in_the_key_of_its_trials():
    plan = plan_of()
    spec = tuning.tuning_trials(plan, {})[0]
    shown = plan.optimizers[spec.optimizer]._replace(about="in other words", colour="#000000")
    others = plan.optimizers | {spec.optimizer: shown}
    assert plan._replace(optimizers=others).key(spec) == plan.key(spec)
    keys = {  # but the `about` of a user's optimizer has the fingerprint of its code
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


@pytest.mark.parametrize("sweep", [False, True])
def test_a_search_without_a_validation_split_is_refused(digits, sweep):
    splits = {name: digits.splits[name] for name in ("train", "test")}
    task = digits._replace(splits=splits)
    wanted = "trials must be 0 with digits, because it has no validation split, got 2: pass"
    with pytest.raises(ValueError, match=wanted):
        make_plan(study_request(sweep=sweep), task)
    plan = make_plan(study_request(trials=0), task)
    assert {spec.phase for spec in schedule.trials(plan, {})} == {"test"}


# ---- what an optimizer is compared with


@pytest.mark.parametrize(
    ("optimizers", "baselines"),
    [
        (("adam", "adamw", "adamp"), {"adam": None, "adamw": None, "adamp": "adamw"}),
        (("adam", "adamp"), {"adam": None, "adamp": "adam"}),  # as in the paper's tables
        (("sgd", "sgdp"), {"sgd": None, "sgdp": "sgd"}),
        (("sgd-plain", "sgd", "sgdp"), {"sgd-plain": None, "sgd": "sgd-plain", "sgdp": "sgd"}),
        (("sgdp",), {"sgdp": None}),
    ],
)
def test_an_optimizer_is_compared_with_the_first_of_its_baselines_that_takes_part(
    optimizers, baselines, digits
):
    plan = make_plan(study_request(optimizers=optimizers, trials=0), digits)
    found = {name: next(iter(plan.baselines(name)), None) for name in plan.optimizers}
    assert found == baselines


def test_without_weight_decay_a_chain_of_baselines_has_the_learning_rate_of_its_first():
    plan = plan_of(trials=0, seeds=1)
    optimizers = {
        name: plan.optimizers[name]._replace(published={"lr": lr, "weight_decay": 0.1})
        for name, lr in (("sgd-plain", 0.3), ("sgd", 0.1), ("sgdp", 0.2))
    }
    plan = plan._replace(optimizers=optimizers)
    undecayed = [s for s in schedule.trials(plan, {}) if s.phase == "undecayed"]
    assert [s.values for s in undecayed] == [{"lr": 0.3, "weight_decay": 0.0}] * 3


def test_baselines_may_name_each_other():
    plan = plan_of()
    ends = {"a": "b", "b": "a"}
    optimizers = {name: plan.optimizers["sgd"]._replace(baseline=b) for name, b in ends.items()}
    plan = plan._replace(optimizers=optimizers)
    assert {name: plan.first_baseline(name) for name in ends} == ends


def test_sgd_without_momentum_decays_a_tenth_as_much(digits):
    planned = {n: planned_optimizer(digits, n, OPTIMIZERS[n]) for n in ("sgd-plain", "sgd")}
    plan, point = plan_of(optimizers=planned), {"lr": 0.1, "weight_decay": 0.1}
    ratio = plan.decay_over_run("sgd", point) / plan.decay_over_run("sgd-plain", point)
    assert ratio == pytest.approx(10)
