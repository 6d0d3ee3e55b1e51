"""The first steps of every optimizer before a study: what fails is named, the time is estimated."""

import pytest
import torch
from digits_study import begun
from processes import call

from tangential_lab.studies import rehearse, schedule

pytestmark = pytest.mark.slow

FLAT_ONLY = """
from torch.optim import SGD

class FlatOnly(SGD):
    def __init__(self, params, lr, weight_decay):
        super().__init__(params, lr)

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.dim() > 2:
                    raise ValueError(f"FlatOnly only trains matrices, got {tuple(p.shape)}")

def flat(params, lr, weight_decay):
    return FlatOnly(params, lr, weight_decay)
"""


def test_the_estimate_counts_all_trials(digits, tmp_path):
    _, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    threads = torch.get_num_threads()
    estimate = rehearse(plan, digits)
    assert estimate.trials == schedule.size(plan, {})
    assert 0 < estimate.trial_s < 60
    assert estimate.core_hours == pytest.approx(estimate.trial_s * estimate.trials / 3600)
    assert torch.get_num_threads() == threads
    longer = rehearse(plan._replace(steps=1000 * plan.steps), digits)
    assert longer.trial_s > 100 * estimate.trial_s


def test_the_rehearsal_changes_no_random_state(digits, tmp_path):
    _, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    rehearse(plan, digits)
    assert torch.equal(torch.rand(2), expected)


def test_an_optimizer_that_cannot_train_the_model_is_named(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(FLAT_ONLY)
    own = ("--optimizers", "sgd", "--optimizer", f"flat={tmp_path}/mine.py:flat")
    status, _, errors = call(
        capsys, "compare", "digits", *own, "--trials", 0, "--seeds", 1, "--out", tmp_path / "out"
    )
    assert status == 1
    text = " ".join(errors.split())
    assert "FlatOnly only trains matrices, got (32, 16, 3, 3)" in text
    assert "leave this optimizer out" in text or "Leave it out of --optimizers" in text
