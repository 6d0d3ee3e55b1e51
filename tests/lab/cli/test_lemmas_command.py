"""`tangential lemmas`: its table, and its exit status."""

import pytest
from processes import call, table_rows

from tangential_lab.cli import lemmas
from tangential_lab.theory import Lemma


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal on which the wide table fits."""
    monkeypatch.setenv("COLUMNS", "150")


TRUE = Lemma("one is one", "logic", 1.0, 1.0, 1e-16, exact=True)
NEARLY = Lemma("angle", "derived", 0.02, 0.0205, 0.025, exact=False)


def printed(monkeypatch, capsys, *found):
    monkeypatch.setattr(lemmas, "all_lemmas", lambda: iter(found))
    code, out, _ = call(capsys, "lemmas")
    return code, table_rows(out), out


def test_it_prints_claimed_measured_and_error(monkeypatch, capsys):
    zero = Lemma("nothing", "logic", 0.0, 2e-16, 2e-16, exact=True)
    code, table, out = printed(monkeypatch, capsys, TRUE, NEARLY, zero)
    assert code == 0
    assert table == [
        ["one is one", "logic", "1", "1", "1.0e-16", "1e-12", "holds"],
        ["angle", "derived", "0.02000", "0.02050", "2.5 %", "3 %", "holds"],
        ["nothing", "logic", "0", "2.0e-16", "2.0e-16", "1e-12", "holds"],
    ]
    assert "Does not hold" not in out


@pytest.mark.parametrize("width", [60, 80])
def test_it_fits_a_narrow_terminal(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    long = Lemma("AdamP: squared norm after a projected, decayed step", "derived", 28.324149105,
                 28.3241491049, 5e-16, exact=True)  # fmt: skip
    code, _, out = printed(monkeypatch, capsys, long, NEARLY)
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    for number in ("28.324149105", "28.3241491049", "5.0e-16", "1e-12", "2.5 %"):
        assert f" {number} " in out


@pytest.mark.parametrize(
    "wrong",
    [
        TRUE._replace(error=2e-12),
        TRUE._replace(error=float("nan")),
        NEARLY._replace(error=0.031),
    ],
)
def test_the_exit_status_is_1_if_a_claim_fails(wrong, monkeypatch, capsys):
    code, table, out = printed(monkeypatch, capsys, TRUE, wrong, NEARLY)
    assert code == 1
    assert [row[-1] for row in table] == ["holds", "fails", "holds"]
    assert f"Does not hold: {wrong.name}" in out
