"""The verdicts on a sound run, on logs that are incomplete, and on a run that diverged."""

import math
import re

import pytest
import torch
from diagnosed_runs import (
    FROZEN,
    HIDDEN,
    SLOW,
    decayed,
    falling,
    freeze,
    kinds,
    made_up_run,
    trained,
)
from torch import nn
from torch.optim import SGD

from tangential import AdamP, Monitor
from tangential.monitor import diagnose, figures, load, sinks
from tangential.monitor.diagnosis import criteria
from tangential.monitor.sinks.rows import COLUMNS


@pytest.mark.slow
def test_the_verdict_on_a_sound_run_says_what_was_checked(good):
    (verdict,) = diagnose(good)
    assert verdict.kind == "sound"
    assert verdict.labels == HIDDEN
    assert 1 / criteria.OFF < verdict.numbers["angle_over_equilibrium"] < criteria.OFF
    assert re.fullmatch(
        r"Nothing wrong was found in steps 0 to 295 \(60 logs\): over 2 weights on which the gate "
        r"mostly fires the effective step per lr (rose|fell) 1\.\d-fold, the angle is 0\.\d+ times "
        r"that of equilibrium, the fastest weight turns 1\.\d times as far as the slowest; no sign "
        r"of a wrong projection in 10 weights; no frozen normalisation\.",
        verdict.text,
    )


@pytest.mark.slow
def test_a_projected_run_can_be_sound():
    log = trained(lambda w: AdamP(w, lr=0.01, weight_decay=1.0, wd_ratio=1.0), audited=True)
    assert [*kinds(log)] == ["sound"]
    assert "2 scale-invariant weights" in kinds(log)["sound"].text


def aggregates(log):
    return [line for line in log if line["label"] in ("all", "early", "middle", "late")]


@pytest.mark.slow
def test_aggregates_alone_leave_criteria_unchecked(momentum):
    found = kinds(aggregates(momentum))
    assert [*found] == ["sound", "not checked"]
    assert "sink with weights=True" in found["not checked"].text
    assert "projection" not in found["sound"].text
    log = aggregates(trained(decayed, before=freeze("1", "4", at=100)))
    found = kinds(log)
    assert found[FROZEN].numbers == {"frozen_norms": 2.0, "since_step": 100.0}
    assert "2 normalisations used running statistics since step 100" in found[FROZEN].text


@pytest.mark.slow
def test_few_logs_leave_criteria_unchecked(momentum):
    found = kinds([x for x in momentum if x["step"] < 35])
    assert [*found] == ["sound", "not checked"]
    assert "4 logs are needed" in found["not checked"].text
    assert "not checked" not in kinds([x for x in momentum if x["step"] < 40])


def test_without_a_scale_invariant_weight_criteria_are_unchecked():
    model, log = nn.Linear(4, 2), sinks.memory()
    optimizer = SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, 1, log):
        for _ in range(60):
            optimizer.zero_grad()
            (model(torch.randn(8, 4)) - torch.randn(8, 2)).square().sum().backward()
            optimizer.step()
    assert "the gate mostly fires on none" in kinds(log)["not checked"].text


@pytest.mark.slow
def test_a_run_that_diverged_is_not_sound():
    def before(model, optimizer, step):
        if step == 200:
            with torch.no_grad():
                model[0].weight.fill_(math.nan)

    found = kinds(trained(decayed, before=before))
    assert "sound" not in found
    assert "Norms are not finite since step 200: 0.weight" in found["not finite"].text


@pytest.mark.slow
def test_a_run_that_was_resumed_before_it_diverged_is_judged_by_what_followed(good):
    last = max(x["step"] for x in good)
    spoilt = [x | {"norm": math.nan} if x["step"] == last else x for x in good]
    again = [x for x in good if x["step"] == last]
    assert "not finite" in kinds(spoilt)
    assert "not finite" not in kinds([*spoilt, *again])


@pytest.mark.slow
def test_lr_of_zero_is_left_out():
    log = trained(decayed, before=lambda m, o, step: falling(0.01, 200)(m, o, min(step, 200)))
    assert all(x["lr"] == 0 for x in log if x["step"] >= 200 and x["label"] in HIDDEN)
    found = diagnose(log)
    assert all(math.isfinite(x) for x in figures(load(log)).values())
    assert SLOW not in {verdict.kind for verdict in found}


def test_a_weight_that_stands_still_is_left_out(momentum):
    still = [
        {**x, "angle_rad": 0.0, "effective_step": 0.0} if x["label"] == "0.weight" else x
        for x in momentum
    ]
    assert kinds(still)[SLOW].labels == ("3.weight",)


@pytest.mark.parametrize("rows", [[{"label": "all"}], [{"step": 1}], [{"step": 1, "label": None}]])
def test_rows_need_step_and_label(rows):
    with pytest.raises(ValueError, match=r"the run has the row .*a row needs a step, a label"):
        diagnose(rows)


def test_a_run_without_rows_is_refused():
    with pytest.raises(ValueError, match="the run is empty: a run needs at least one log"):
        diagnose([])


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, -math.inf, math.nan, 1e308, 5e-324, None])
@pytest.mark.parametrize("column", [*COLUMNS, "every"])
def test_a_column_of_one_value_is_diagnosed(column, value):
    log = [
        {
            k: value if k not in ("step", "label") and column in (k, "every") else x
            for k, x in line.items()
        }
        for line in made_up_run()
    ]
    found = diagnose(log)
    assert found
    assert all("\n" not in verdict.text for verdict in found)
