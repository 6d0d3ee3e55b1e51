"""Optimizers that take the point and the recorded angles of another one, their leader."""

import pyarrow.parquet as pq
import pytest
import torch
from digits_study import study_request
from planned import plan_of, scored
from processes import call
from torch import nn

from tangential_lab.studies import schedule, tuning
from tangential_lab.studies.study import make_plan
from tangential_lab.training import OPTIMIZERS, Handover

FOLLOWERS = {name for name, entry in OPTIMIZERS.items() if entry.leader}


def some(plan, *names):
    return plan._replace(optimizers={name: plan.optimizers[name] for name in names})


def run(plan):
    """The records of a whole study; every trial that runs has its leader's record."""
    records = {}
    while specs := schedule.ready(plan, records):
        for spec in specs:
            leader = plan.leader_of(spec)
            assert leader is None or leader in records
            records[spec] = scored(0.5 + 0.1 * spec.values["weight_decay"])
    assert not schedule.missing(plan, records)
    return records


@pytest.mark.parametrize("trials", [0, 6, 16])
def test_followers_are_not_searched_and_get_the_points_of_their_leader(trials):
    plan = some(plan_of(trials=trials), "adamw", "adamp", *sorted(FOLLOWERS))
    records = run(plan)
    assert {spec.optimizer for spec in records if spec.phase == "tune"}.isdisjoint(FOLLOWERS)
    for phase in ("test", "undecayed"):
        points = {
            name: {(s.seed, s.point) for s in records if (s.optimizer, s.phase) == (name, phase)}
            for name in (*FOLLOWERS, "adamp")
        }
        assert len(points["adamp"]) == plan.seeds
        assert all(points[name] == points["adamp"] for name in FOLLOWERS)
    assert tuning.best_point(plan, records, "adamw-rescaled") == tuning.best_point(
        plan, records, "adamp"
    )


def test_a_trial_with_angles_is_not_one_without():
    alone, led = plan_of(), some(plan_of(), "adamw", "adamp")
    tune, test = (
        next(s for s in schedule.trials(alone, {}) if s.optimizer == "adamp"),
        next(s for s in schedule.test_trials(led, {}) if s.optimizer == "adamp"),
    )
    assert alone.key(tune) == led.key(tune)
    assert alone.key(test) != led.key(test)
    other = test._replace(optimizer="adamw")
    assert alone.key(other) == led.key(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizers": ("adamw", "adamw-rescaled")}, "needs adamp among the optimizers"),
        ({"sweep": True, "trials": 2}, "needs a study with test seeds: leave out --sweep"),
        ({"sharded": True}, "leave out --sharded"),
        ({"precision": "fp16"}, "use --precision no or bf16"),
    ],
)
@pytest.mark.slow
def test_what_a_follower_needs(digits, changes, message):
    wanted = {"optimizers": ("adamp", "adamw-rescaled"), "trials": 0, **changes}
    with pytest.raises(ValueError, match=f"adamw-rescaled takes the angles of adamp.*{message}"):
        make_plan(study_request(**wanted), digits)


def test_a_follower_needs_scale_invariant_weights(digits):
    flat = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    flat(torch.zeros(1, 64))
    with pytest.raises(ValueError, match="a model with scale-invariant weights, but the audit"):
        make_plan(
            study_request(optimizers=("adamp", "adamw-rescaled"), trials=0),
            digits._replace(model=lambda: flat),
        )


def test_a_follower_needs_a_leader_that_trains_to_the_end(digits):
    with pytest.raises(ValueError, match="needs a task without a handover to another optimizer"):
        make_plan(
            study_request(optimizers=("adamp", "adamw-rescaled"), trials=0),
            digits._replace(handover=Handover(0.5, "sgd", {"lr": 0.1, "weight_decay": 0.0})),
        )


@pytest.mark.slow
def test_a_study_of_followers_reports_whether_they_equal_their_leader(tmp_path, capsys):
    status, text, errors = call(
        capsys,
        *("compare", "digits", "--optimizers", "adamw", "adamp", *sorted(FOLLOWERS)),
        *("--trials", "0", "--seeds", "2", "--epochs", "1", "--out", str(tmp_path)),
    )
    assert status == 0, errors
    assert "AdamW-rescaled" in text
    records = pq.read_table(tmp_path / "digits" / "trials.parquet").to_pylist()
    steps = {name: {} for name in ("adamp", "adamw", *FOLLOWERS)}
    for record in records:
        steps[record["optimizer"]][record["seed"]] = record["effective_step"]
    for name in FOLLOWERS:
        assert steps[name] == pytest.approx(steps["adamp"], rel=1e-3)
    assert steps["adamw"] != pytest.approx(steps["adamp"], rel=1e-3)
