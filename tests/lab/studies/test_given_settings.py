"""Settings that the user gives in place of published ones."""

import math

import made_study as made
import pytest
from digits_study import study_request

from tangential_lab.cli.study.settings import GivenSettings
from tangential_lab.reports import page, report
from tangential_lab.studies import schedule
from tangential_lab.studies.study import make_plan
from tangential_lab.training import OPTIMIZERS, Point, untuned_point

NAMES = ("sgd", "sgdp", "adamw", "adamp", "adamp-matched")
PUBLISHED: dict[str, Point] = {
    "sgd": {"lr": 0.1, "weight_decay": 1e-4},
    "sgdp": {"lr": 0.1, "weight_decay": 1e-5},
    "adam": {"lr": 1e-3, "weight_decay": 1e-2},
}


def points(lr=(), weight_decay=()):
    """Learning rate and weight decay of every optimizer, with these arguments of the command."""
    given = GivenSettings(tuple(lr), tuple(weight_decay)).points()
    at = {name: untuned_point(name, OPTIMIZERS[name], PUBLISHED, given) for name in NAMES}
    return {name: (point["lr"], point["weight_decay"]) for name, point in at.items()}


def test_without_arguments_everything_is_published():
    assert points() == {
        "sgd": (0.1, 1e-4), "sgdp": (0.1, 1e-5), "adamw": (1e-3, 1e-2), "adamp": (1e-3, 1e-2),
        "adamp-matched": (1e-3, 1e-2),
    }  # fmt: skip


def test_a_number_is_for_all_optimizers():
    assert set(points(["0.5"], ["0"]).values()) == {(0.5, 0.0)}


@pytest.mark.parametrize("texts", [["0.5", "adam=2", "adamp=3"], ["adamp=3", "adam=2", "0.5"]])
def test_an_optimizer_comes_before_its_family_and_a_family_before_a_number(texts):
    lrs = {name: lr for name, (lr, _) in points(texts).items()}
    assert lrs == {"sgd": 0.5, "sgdp": 0.5, "adamw": 2, "adamp": 3, "adamp-matched": 3}
    decays = {name: decay for name, (_, decay) in points((), texts).items()}
    assert decays == lrs


def test_a_familys_setting_replaces_what_is_published_for_one_of_its_optimizers():
    assert points(weight_decay=["sgd=0.3"])["sgdp"] == (0.1, 0.3)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["big"], "--weight-decay must be a number or NAME=NUMBER, got 'big'"),
        (["sgd=big"], "--weight-decay must be a number or NAME=NUMBER, got 'sgd=big'"),
        (["sgd=1", "sgd=2"], "--weight-decay must name every optimizer once, got sgd=1 sgd=2"),
        (["1", "2"], "--weight-decay must name every optimizer once, got 1 2"),
        (["=1"], "--weight-decay must name every optimizer once, got =1"),
    ],
)
def test_an_unknown_setting_is_refused(texts, words):
    with pytest.raises(ValueError, match=words):
        points(weight_decay=texts)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sgd": {"lr": 0.0}}, "lr of sgd must be a finite number > 0, got 0"),
        ({"adamp": {"lr": -1.0}}, "lr of adamp must be a finite number > 0, got -1"),
        ({"adamp": {"lr": math.nan}}, "lr of adamp must be a finite number > 0, got nan"),
        ({"sgd": {"weight_decay": -1.0}}, "weight_decay of sgd must be .* >= 0, got -1"),
        ({"adam": {"weight_decay": math.inf}}, "weight_decay of adam must be .* >= 0, got inf"),
        ({"adampp": {"lr": 1.0}}, "unknown optimizer or family 'adampp'. Did you mean 'adamp'"),
        ({"sgdw": {"lr": 1.0}}, "Known: sgd, adam, sgdp, adamp"),
    ],
)
def test_a_setting_out_of_range_or_of_no_optimizer_is_refused(digits, given, words):
    with pytest.raises(ValueError, match=words):
        make_plan(study_request(trials=0, given=given), digits)


def test_a_search_refuses_given_settings(digits):
    with pytest.raises(ValueError, match="pass --trials 0 with them, got 2"):
        make_plan(study_request(trials=2, given={"sgd": {"lr": 0.1}}), digits)


def test_trials_run_at_the_given_settings_with_and_without_decay(digits):
    given = {"sgd": {"lr": 0.3}, "adamp": {"weight_decay": 0.2}}
    plan = make_plan(study_request(trials=0, undecayed=True, given=given), digits)
    published = digits.published["adamp"]
    at = {(s.optimizer, s.phase): s.values for s in schedule.trials(plan, {})}
    assert at == {
        ("sgdp", "test"): digits.published["sgd"] | {"lr": 0.3},
        ("sgdp", "undecayed"): {"lr": 0.3, "weight_decay": 0.0},
        ("adamp", "test"): published | {"weight_decay": 0.2},
        ("adamp", "undecayed"): published | {"weight_decay": 0.0},
    }


@pytest.mark.parametrize(("decay", "phases"), [(0.0, {"test"}), (0.1, {"test", "undecayed"})])
def test_trials_without_decay_are_not_repeated_if_nothing_decays(digits, decay, phases):
    given = {"sgd": {"weight_decay": 0.0}, "adam": {"weight_decay": decay}}
    plan = make_plan(study_request(trials=0, undecayed=True, given=given), digits)
    assert {spec.phase for spec in schedule.trials(plan, {})} == phases


def test_an_optimizer_with_its_own_space_takes_only_settings_in_it():
    entry = OPTIMIZERS["sgd"]._replace(space={"lr": (0.01, 1.0), "momentum": (0.5, 0.5)})
    given = {"sgd": {"lr": 0.3, "weight_decay": 1.0}}
    assert untuned_point("mine", entry, PUBLISHED, given) == {"lr": 0.3, "momentum": 0.5}
    with pytest.raises(ValueError, match="mine has lr, momentum, got weight_decay: leave it out"):
        untuned_point("mine", entry, PUBLISHED, given={"mine": {"weight_decay": 1.0}})


@pytest.mark.parametrize("given", [False, True])
def test_the_page_shows_the_settings_and_that_the_user_gave_them(given):
    plan = made.plan(("sgd", "sgdp"), trials=0, seeds=2, undecayed=False, given=given)
    text = page(report(plan, made.finished(plan, logs=4)))
    assert ("those of --lr and --weight-decay replace" in text) is given
    assert "their settings" in text
    assert "search space" not in text
