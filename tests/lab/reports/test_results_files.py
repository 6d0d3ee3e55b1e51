"""The results pages' files: exported studies, and pages that are written from them."""

import csv
import sys
from pathlib import Path
from shutil import copy

import made_study as made
import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("invariant", [made.LAYERS, []])
@pytest.mark.slow
def test_an_exported_study_has_the_same_page(results, tmp_path, invariant):
    study = made.of_task("adversarial", invariant=invariant, data=["digits", "0" * 64])
    results.export("adversarial", study, tmp_path)
    loaded = results.load("adversarial", tmp_path)
    assert loaded.report.plan == study.plan
    assert loaded.report.records.keys() == study.records.keys()
    assert loaded.report.headline == study.headline
    pairs = zip(loaded.report.findings, study.findings, strict=True)
    assert all(a[:5] == b[:5] for a, b in pairs)  # all but the cost, which needs curves
    for a, b in zip(loaded.report.rows, study.rows, strict=True):
        assert str(a._replace(steps=None, seconds=None)) == str(
            b._replace(steps=None, seconds=None)
        )
    assert loaded.figures == ["Accuracy over steps"] + (
        ["Mean weight norm", "Effective step"] if invariant else []
    )
    with (tmp_path / "adversarial.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(study.records)
    assert {"optimizer", "score", "commit"} <= set(rows[0])
    assert not {"command", "machine"} & set(rows[0])  # they are in the JSON file
    assert ({"norm", "effective_step", "memory_share"} <= set(rows[0])) is bool(invariant)
    assert (tmp_path / "adversarial.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_picture_of_a_sweep_shows_its_curves(results, tmp_path):
    study = made.on_a_grid(sweep=True, trials=6, tuning_seeds=3, seeds=0)
    results.export("digits", study, tmp_path)
    loaded = results.load("digits", tmp_path)
    assert loaded.figures == ["Score over the learning rate", "Score over the rotation"]
    assert [row.score for row in loaded.report.rows] == [row.score for row in study.rows]


@pytest.fixture
def write_pages(results, tmp_path, monkeypatch, capsys):
    """Writes the pages from the studies of these names; returns what was printed."""
    for name in ("pages.toml", "page.md.jinja"):
        copy(DOCS / "results" / name, tmp_path)
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["results.py", "--studies", str(tmp_path)])
    study = made.of_task("imagenet")

    def write(*names):
        monkeypatch.setattr(results, "finished", lambda f: study if f.name in names else None)
        results.main()
        return capsys.readouterr().out

    return write


@pytest.mark.slow
def test_a_page_names_the_studies_that_are_still_to_be_done(write_pages, tmp_path):
    out = write_pages("imagenet")
    assert "detection: no study yet" in out
    assert f"imagenet-cutmix: no finished study in {tmp_path}" in out
    text = (tmp_path / "imagenet.md").read_text("utf-8")
    assert "\n- imagenet-cutmix: no study yet.\n" in text
    assert not (tmp_path / "detection.md").exists()
    write_pages("imagenet", "imagenet-cutmix")
    assert "no study yet" not in (tmp_path / "imagenet.md").read_text("utf-8")


@pytest.mark.slow
def test_a_page_keeps_the_studies_that_the_folder_does_not_have(write_pages, tmp_path):
    write_pages("imagenet", "imagenet-cutmix")
    before = (tmp_path / "imagenet.md").read_text("utf-8")
    write_pages("imagenet")
    assert (tmp_path / "imagenet.md").read_text("utf-8") == before
