"""Comparisons that a task or the user chooses: in the plan, and in the trials of a study."""

import inspect
import re
from zlib import crc32

import pytest
from digits_study import study_request
from planned import plan_of, scored

from tangential_lab import experiments
from tangential_lab.cli.study.options import parse_baselines
from tangential_lab.studies import Plan, make_plan, schedule, study
from tangential_lab.training import OPTIMIZERS

ALL = ("sgd", "sgdp", "adam", "adamw", "adamp")
PUBLISHED_WITH_ADAM = ("detection", "adversarial", "bias", "audio")


@pytest.fixture(autouse=True)
def without_audit(monkeypatch):
    """The audit takes seconds, and no comparison depends on it."""
    monkeypatch.setattr(study, "scale_invariant_weights", lambda task: [])


def planned(task, names=ALL, **baselines):
    return make_plan(study_request(optimizers=names, trials=0, baselines=baselines), task)


# ---- the plan


def test_an_optimizer_has_its_usual_baseline_unless_others_are_chosen(digits):
    assert planned(digits).comparisons == [("sgdp", "sgd"), ("adamp", "adamw")]
    plan = planned(digits, adamp=["adam", "adamw"], adam=["sgd"])
    assert plan.comparisons == [
        *(("sgdp", "sgd"), ("adam", "sgd"), ("adamp", "adam"), ("adamp", "adamw"))
    ]
    assert Plan.of(plan.text()) == plan


def test_a_task_chooses_baselines_and_the_user_has_the_last_word(digits):
    task = digits._replace(baselines={"adamp": ("adamw", "adam")})
    assert planned(task).baselines("adamp") == ["adamw", "adam"]
    assert planned(task, ("adam", "adamp")).baselines("adamp") == ["adam"]
    assert planned(task, ("sgd", "sgdp")).comparisons == [("sgdp", "sgd")]
    assert planned(task, adamp=["sgd"]).baselines("adamp") == ["sgd"]


@pytest.mark.slow
def test_both_are_compared_if_the_published_table_has_adam_and_adamp(home):
    task = experiments.make("adversarial", None, {})
    assert task.baselines == {"adamp": ("adamw", "adam")}
    for name in set(experiments.NAMES) - {"adversarial"}:
        code = inspect.getsource(inspect.unwrap(experiments.task_function(name)))
        assert ("baselines=ADAM_AND_ADAMW" in code) is (name in PUBLISHED_WITH_ADAM), name


def test_a_plan_from_before_baselines_could_be_chosen_is_read():
    plan = plan_of()
    old = plan.text().replace(', "chosen_baselines": {}', "")
    assert old != plan.text()
    assert Plan.of(old) == plan


def test_one_comparison_both_ways_is_refused(digits):
    words = "adamw=adamp and adamp=adamw are the same comparison: leave one of them out"
    with pytest.raises(ValueError, match=words):
        planned(digits, adamw=["adamp"])
    planned(digits, adamw=["adamp"], adamp=["adam"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("adamp", "must be optimizer=another optimizer, such as adamp=adam, got 'adamp'"),
        ("adamp=", "got 'adamp='"),
        ("sgd=sgd", "got 'sgd=sgd'"),
        ("adamp=adm", "--baseline adamp=adm: unknown optimizer 'adm'. Did you mean 'adam'?"),
        ("lion=adam", "--baseline lion=adam: unknown optimizer 'lion'"),
        ("=adam", "--baseline =adam: unknown optimizer ''"),
    ],
)
def test_a_baseline_must_be_another_optimizer_of_the_study(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_baselines([given], ["sgd", "adam", "adamp"])


def test_baselines_of_one_optimizer_are_collected():
    given = ["adamp=adam", "mine=adamp", "adamp=adamw", "adamp=adam"]
    assert parse_baselines(given, ["adam", "adamw", "adamp", "mine"]) == {
        "adamp": ["adam", "adamw"],
        "mine": ["adamp"],
    }


# ---- the trials


def finished(plan, score):
    records = {}
    while specs := schedule.missing(plan, records):
        records |= {spec: scored(score(spec)) for spec in specs}
    return records


def test_baselines_do_not_change_which_trials_are_kept():
    plan, spec = plan_of(), schedule.trials(plan_of(), {})[0]
    assert plan._replace(chosen_baselines={"adamp": ["adam"]}).key(spec) == plan.key(spec)


def test_undecayed_trials_are_at_the_lr_of_the_first_baseline():
    optimizers = {name: plan_of().optimizers[name] for name in ("adam", "adamw", "adamp")}
    optimizers["adam"] = optimizers["adam"]._replace(published={"lr": 7.0, "weight_decay": 0.0})
    plan = plan_of(optimizers=optimizers, trials=0, seeds=1)
    for chosen, lr in ((["adam", "adamw"], 7.0), (["adamw", "adam"], 1e-3)):
        chosen_plan = plan._replace(chosen_baselines={"adamp": chosen})
        specs = schedule.trials(chosen_plan, {})
        [bare] = [s for s in specs if (s.optimizer, s.phase) == ("adamp", "undecayed")]
        assert bare.values["lr"] == lr


def test_every_optimizer_that_is_behind_in_a_comparison_gets_its_runner_ups_tested():
    optimizers = {name: plan_of().optimizers[name] for name in ("adam", "adamw", "adamp")}
    plan = plan_of(optimizers=optimizers, undecayed=False, seeds=8)

    def score(spec):
        noise = 0.001 * (crc32(repr(spec).encode()) % 5)
        return 0.8 + noise - 0.1 * (spec.phase == "test" and spec.optimizer == "adam")

    assert not [s for s in finished(plan, score) if s.phase == "runner-up"]
    both = plan._replace(chosen_baselines={"adamp": ["adamw", "adam"]})
    more = [spec for spec in finished(both, score) if spec.phase == "runner-up"]
    assert {spec.optimizer for spec in more} == {"adam"}
    assert OPTIMIZERS["adamp"].baselines[0] == "adamw"
