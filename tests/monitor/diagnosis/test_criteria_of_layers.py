"""Criteria that name single layers: wrong projection, unequal rotation, frozen normalisation."""

import pytest
import torch
from diagnosed_runs import FROZEN, UNEQUAL, WRONG, decayed, freeze, kinds, net, trained
from torch import nn

from tangential import AdamP, Monitor, audit
from tangential.monitor import diagnose, sinks

pytestmark = pytest.mark.slow


def test_an_audit_shows_which_projections_are_wrong():
    model, log = net(), sinks.memory()
    found = audit(model, [torch.randn(8, 16) for _ in range(3)])
    log = sinks.memory()
    optimizer = AdamP(model.parameters(), lr=1e-3)
    with Monitor(model, optimizer, 1, log, audit=found):
        for _ in range(150):
            x = torch.randn(32, 16)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), torch.randint(4, (32,))).backward()
            optimizer.step()
    lines = [x for x in log if x["label"] == "6.weight"]
    share = sum(x["gate_row"] + x["gate_weight"] > 0 for x in lines) / 150
    verdict = kinds(log)[WRONG]
    assert verdict.labels == ("6.weight",)
    assert verdict.numbers == {"6.weight": pytest.approx(share)}
    assert 0.02 < share < 0.2  # 8 % by chance
    assert f"6.weight in {100 * share:.0f} % of logs; by the audit, none of them is" in verdict.text


def test_without_an_audit_a_flickering_gate_tells():
    log = trained(lambda w: AdamP(w, lr=1e-3), every=1)
    lines = [x for x in log if x["label"] == "6.weight"]
    share = sum(x["gate_row"] + x["gate_weight"] > 0 for x in lines) / 300
    verdict = kinds(log)[WRONG]
    assert verdict.labels == ("6.weight",)
    assert verdict.numbers == {"6.weight": pytest.approx(share)}
    assert 0 < share < 0.2
    assert "the gate fires only now and then, and sqrt(n) |cos(w, g)| is of order 1" in verdict.text


@pytest.mark.parametrize("audited", [False, True])
def test_an_optimizer_that_does_not_project_does_not_project_wrongly(audited):
    """The published gate would fire, but AdamW has no gate."""

    def make(groups):
        return decayed([p for g in groups for p in g["params"]] if audited else groups)

    log = trained(make, every=1, audited=audited)
    assert any(x["gate_weight"] for x in log if x["label"] == "6.weight")
    assert WRONG not in kinds(log)


def test_layers_with_different_lrs_rotate_unequally():
    def make(weights):
        first, *rest = weights
        return AdamP([{"params": [first], "lr": 1e-4}, {"params": rest}], lr=1e-3)

    verdict = kinds(trained(make))[UNEQUAL]
    assert verdict.labels == ("3.weight", "0.weight")
    numbers = verdict.numbers
    assert numbers["ratio"] == pytest.approx(numbers["fastest_rad"] / numbers["slowest_rad"])
    assert 8 < numbers["ratio"] < 20
    assert verdict.text.startswith(
        f"Layers rotate unequally: 3.weight turns {numbers['ratio']:.1f} times as far per step as "
        f"0.weight ({numbers['fastest_rad']:.2g} rad, lr 0.001, against "
    )


def test_a_large_norm_makes_a_layer_slow():
    """All layers have the same lr, so the sentence does not name it."""

    def before(model, optimizer, step):
        if step == 0:
            with torch.no_grad():
                model[3].weight *= 20

    verdict = kinds(trained(lambda w: AdamP(w, lr=1e-3), before=before))[UNEQUAL]
    assert verdict.labels == ("0.weight", "3.weight")
    assert "lr" not in verdict.text.replace("Layers", "")


@pytest.mark.parametrize("at", [0, 100])
def test_a_normalisation_in_eval_mode_is_frozen(at):
    verdict = kinds(trained(decayed, before=freeze("1", "4", at=at)))[FROZEN]
    assert verdict.labels == ("1", "4")
    assert verdict.numbers == {"frozen_norms": 2.0, "since_step": float(at)}
    assert f"1, 4 used running statistics since step {at}, which" in verdict.text


def test_normalisations_frozen_at_different_times_have_a_verdict_each():
    def before(model, optimizer, step):
        freeze("1", at=50, until=90)(model, optimizer, step)
        freeze("4", at=100)(model, optimizer, step)

    found = [x for x in diagnose(trained(decayed, before=before)) if x.kind == FROZEN]
    assert [x.labels for x in found] == [("1",), ("4",)]
    assert "1 used running statistics in 8 logs from step 50 to 85," in found[0].text
    assert "since step 100" in found[1].text
