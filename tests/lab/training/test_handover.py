"""A recipe in which another optimizer takes over from the compared one during training."""

from itertools import islice

import pytest
import torch
from accelerate.utils import set_seed
from digits_study import SPEC, trained, without_times

from tangential_lab.studies.study import planned_optimizer
from tangential_lab.training import OPTIMIZERS, Handover, ProcessShare, training_batches
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped

pytestmark = pytest.mark.usefixtures("one_thread")

POINT = {"lr": 0.05, "weight_decay": 1e-3}
STEPS, FIRST = 32, 13  # of a trial; of the compared optimizer


@pytest.fixture(scope="module")
def task(digits):
    """Digits, on which SGD takes over after 40 % of the steps."""
    return digits._replace(handover=Handover(0.4, "sgd", POINT))


def by_hand(task, spec):
    """The weights after a loop that anyone would write."""
    set_seed(spec.seed)
    model = task.model().train()
    batches = training_batches(task, spec.seed, 0, ProcessShare())
    optimizer, base = OPTIMIZERS[spec.optimizer].build(_groups(model), **spec.values), 0.02
    for step, batch in enumerate(islice(batches, STEPS)):
        if step == FIRST:
            optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, **POINT)
            base = POINT["lr"]
        for group in optimizer.param_groups:
            group["lr"] = base * task.schedule(step / STEPS)
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    return model.state_dict()


def _groups(model):
    return [{"params": [*model.parameters()], "scale_invariant": False}]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamp", "sgdp", "adam"])
def test_a_trial_equals_a_plain_training_loop(optimizer, task):
    spec = SPEC._replace(optimizer=optimizer)
    trial = Trial(task, OPTIMIZERS[optimizer], spec, TrialOptions(2))
    record = trial.train()
    assert trial.handover_step == FIRST
    expected = by_hand(task, spec)
    assert all(torch.equal(x, expected[name]) for name, x in trial.model.state_dict().items())
    rates = dict(zip(record["curves"]["step"], record["curves"]["lr"], strict=True))
    for step, rate in rates.items():
        base = 0.02 if step < FIRST else 0.05
        assert rate == pytest.approx(base * task.schedule(step / STEPS), rel=1e-5)


@pytest.mark.parametrize("stops", [[3], [FIRST - 1], [FIRST], [FIRST + 1], [3, FIRST - 4, 9]])
@pytest.mark.slow
def test_a_trial_resumes_exactly_in_each_part(stops, task, tmp_path):
    """Each number counts the steps after which the trial is stopped once more."""
    whole = trained(task)
    for steps in stops:
        left = iter(range(steps - 1, -1, -1))
        with pytest.raises(TrialStopped):
            trained(task, folder=tmp_path, stop=lambda left=left: not next(left))
    assert without_times(trained(task, folder=tmp_path)) == without_times(whole)


@pytest.mark.slow
def test_norms_are_measured_in_both_parts(task, digits):
    record, usual = trained(task), trained(digits)
    steps = record["curves"]["step"]
    assert steps == [1, 11, 21, 31]
    for name in ("norm", "effective_step", "growth_step"):
        values, others = record["curves"][name], usual["curves"][name]
        assert values[:2] == others[:2]
        assert all(a != b for a, b in zip(values[2:], others[2:], strict=True))


@pytest.mark.slow
def test_a_trial_without_weight_decay_has_none_after_the_handover(task):
    assert task.handover.point_after({"lr": 0.1, "weight_decay": 0.0}) == POINT | {
        "weight_decay": 0.0
    }
    assert task.handover.point_after({"lr": 0.1, "weight_decay": 0.1}) == POINT
    assert task.handover.point_after({"lr": 0.1}) == POINT
    spec = SPEC._replace(point=(("lr", 0.02), ("weight_decay", 0.0)))
    trial = Trial(task, OPTIMIZERS["adamp"], spec, TrialOptions(2))
    trial.train()
    assert {group["weight_decay"] for group in trial.optimizer.param_groups} == {0.0}


def test_a_trial_that_diverges_before_is_not_handed_over(task):
    spec = SPEC._replace(optimizer="sgd", point=(("lr", 1e12), ("weight_decay", 1e-3)))
    record = trained(task, spec)
    assert record["diverged"]
    assert record["steps"] < FIRST


def test_the_compared_optimizer_has_at_least_one_step(task):
    trial = Trial(task, OPTIMIZERS["adamp"], SPEC, TrialOptions(1 / 16))
    assert (trial.steps, trial.handover_step) == (1, 1)
    assert trial.train()["steps"] == 1


def test_its_decay_acts_during_its_part_only(task, digits):
    entry = OPTIMIZERS["sgd"]
    whole, part = (planned_optimizer(t, "sgd", entry).decay_multiplier for t in (digits, task))
    assert part == pytest.approx(0.4 * whole) == pytest.approx(4)
