"""Proofs by gradients and by rescaling agree with the truth; the gate is the optimizers' gate."""

import pytest
import torch
from audit_models import ROW, WHOLE, Model, Scale, inputs, units_of
from known_nets import NETS, built
from torch import nn

from tangential import SGDP, audit
from tangential.backends import Units
from tangential.invariance import audits
from tangential.invariance.copies import FLOAT32, FLOAT64, in_general_position, widened
from tangential.invariance.evidence import Finding
from tangential.invariance.probe import Probe
from tangential.invariance.proofs import confirm_by_rescaling, gate_decision


@pytest.mark.parametrize("precision", [FLOAT64, FLOAT32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.slow
def test_both_proofs_find_exactly_the_invariant_weights(name, precision, monkeypatch):
    monkeypatch.setattr(audits, "FLOAT64", precision)
    model, batches = built(name)
    result = audit(model, batches, verify=True)
    assert [line.name for line in result.lines] == [n for n, _ in model.named_parameters()]
    assert units_of(result) == NETS[name].invariant
    assert result.names("dead") == [*NETS[name].dead]
    assert [line.name for line in result.lines if not line.verified] == []


TRUTHS = [("batch norm", ROW), ("group norm", ("row", 0, 2)), ("layer norm", WHOLE), ("none", None)]
CLAIMS = [None, "dead", ROW, ("row", 0, 2), ("row", 1, 1), ("row", 0, 3), WHOLE]


@pytest.mark.parametrize(("name", "truth"), TRUTHS)
@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_rescaling_confirms_the_truth_and_no_other_claim(name, truth, claim):
    if claim is None or claim == "dead":
        finding = Finding(claim or "variant")
    else:
        finding = Finding(claim[0], Units(*claim))
    model, batches = built(name)
    probe = Probe(in_general_position(model, 0, FLOAT64), None, 0)
    confirmed = confirm_by_rescaling(probe, widened(batches[0]), {"net.0.weight": finding}, 0)
    assert confirmed["net.0.weight"] == (claim == truth)


def test_the_same_seed_gives_the_same_numbers():
    model, batches = built("dropout")
    first, again, other = (audit(model, batches, seed=seed).records() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("decision", "grad"),
    [
        ("row", [[4.0, -3.0], [0.0, 1.0]]),
        ("weight", [[3.0, 4.0], [-25.0, 0.0]]),
        ("off", [[3.0, 4.0], [1.0, 0.0]]),
    ],
)
def test_the_gate_decides_as_the_optimizers_do(decision, grad):
    start = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    ends = []
    for projection in ("auto", decision):
        weight = nn.Parameter(start.clone())
        weight.grad = torch.tensor(grad)
        SGDP([weight], lr=0.1, weight_decay=0.1, projection=projection).step()
        ends.append(weight.detach())
    assert torch.equal(*ends)
    assert gate_decision(start, torch.tensor(grad)) == decision


def test_the_gate_projects_by_row_before_batch_norm():
    model, batches = built("batch norm")
    result = audit(model, batches)
    assert result["net.0.weight"].gate == ("row",) * 3
    assert result["net.0.weight"].eps_radial < 1e-2
    assert (result["net.0.weight"].wrong, result["net.0.weight"].missed) == (0, 0)


def test_the_gate_misses_rows_of_another_axis():
    model, batches = built("transposed convolution")
    result = audit(model, batches)
    assert "row" not in result["net.0.weight"].gate
    assert [line.name for line in result.missed] == ["net.0.weight"]
    assert result["net.0.weight"].missed == 1
    assert result.wrong == []


@pytest.mark.slow
def test_the_gate_projects_matrices_by_chance():
    """|N(0, 1)| < 0.1 in 8 % of the gradients of a scale-variant matrix (METHOD, section 2)."""
    model = Model(lambda m, x: x @ m.w.weight, w=Scale(16, 16))
    result = audit(model, inputs(200, (4, 16)))
    assert result["w.weight"].kind == "variant"
    assert 0.03 < result["w.weight"].wrong < 0.15
    assert set(result["w.weight"].gate) == {"off", "weight"}
