"""Lines, shares, the summary and the files of an audit."""

import csv
import json

import pytest
from known_nets import built

from tangential import audit
from tangential.invariance import Line


@pytest.mark.parametrize(
    ("kind", "gate", "groups", "wrong", "missed", "flicker"),
    [
        ("variant", "off off weight off", 1, 0.25, 0, 0.25),
        ("variant", "row off row weight", 1, 0.75, 0, 0.5),
        ("row", "row row weight off", 1, 0, 0.5, 0.5),
        ("row", "row weight weight off", 2, 0.25, 0.75, 0.5),
        ("weight", "weight weight off row", 1, 0.25, 0.25, 0.5),
        ("dead", "row row", 1, 0, 0, 0),
    ],
)
def test_a_line_counts_wrong_and_missed_decisions(kind, gate, groups, wrong, missed, flicker):
    decisions = tuple(gate.split())
    line = Line("w", (4, 4), 16, kind, 0, groups, 0.0, 0.0, None, decisions, ())
    assert (line.wrong, line.missed, line.flicker) == (wrong, missed, flicker)


@pytest.fixture
def result():
    model, batches = built("batch norm, bias")
    return audit(model, batches, verify=True)


def test_the_summary_has_the_share_of_each_kind(result):
    share = 6 * 27 / (6 * 27 + 18)
    assert result.share("row") == pytest.approx(share)
    assert result.summary.startswith("90.0 % of the weights are scale-invariant by row")
    assert sum(result.share(k) for k in ("row", "weight", "variant", "dead")) == 1


def test_csv_and_json_hold_every_weight(result, tmp_path):
    result.to_csv(tmp_path / "a.csv")
    result.to_json(tmp_path / "a.json")
    lines = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    whole = json.loads((tmp_path / "a.json").read_text())
    assert [x["name"] for x in lines] == [x["name"] for x in whole["weights"]]
    assert lines[0] | {"radial": ""} == {
        "name": "net.0.weight",
        "shape": "6 3 3 3",
        "size": "162",
        "kind": "row",
        "row_axis": "0",
        "row_groups": "1",
        "radial": "",
        "eps_radial": lines[0]["eps_radial"],
        "verified": "True",
        "gate": "row row row",
        "notes": "",
        "remedy": "",
        "gate_axis": "0",
        "projection": "row",
        "flicker": "0.0",
        "wrong": "0.0",
        "missed": "0.0",
    }
    assert whole["weights"][0]["shape"] == [6, 3, 3, 3]
    assert whole["shares"]["row"] == pytest.approx(0.9)
    assert whole["summary"] == result.summary


def test_an_unknown_name_is_a_key_error(result):
    with pytest.raises(KeyError, match="nothing"):
        result["nothing"]


def test_the_summary_has_units_of_heads():
    model, batches = built("heads")
    share = 100 * 64 / sum(param.numel() for param in model.parameters())
    words = f"0.0 % of the weights are scale-invariant by row, {share:.1f} % by unit of 4 rows"
    assert audit(model, batches).summary == words
