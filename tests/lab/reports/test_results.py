"""The results pages: words from numbers, published figures beside them, every trial at hand."""

import csv
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from shutil import copy

import made_study as made
import pytest

from tangential_lab.cli.study.compare import default_name
from tangential_lab.experiments import NAMES, options
from tangential_lab.names import label
from tangential_lab.reports import report

DOCS = Path(__file__).parents[3] / "docs"
PAGES = tomllib.loads((DOCS / "results" / "pages.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def results():
    spec = importlib.util.spec_from_file_location("results", DOCS / "results.py")
    module = sys.modules["results"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_of(name, **changes):
    plan = made.plan(trials=3, seeds=3, undecayed=False, task=name, **changes)
    return report(plan, made.finished(plan))


def test_every_task_of_the_paper_has_a_page():
    assert set(PAGES) == set(NAMES) - {"digits"}


@pytest.mark.parametrize("task", PAGES)
def test_studies_have_the_names_that_the_command_gives_them(task):
    names = {
        default_name(task, {name: value})
        for name, option in options(task).items()
        for value in option.choices
    }
    assert set(PAGES[task]["studies"]) <= names


def test_a_page_says_what_the_report_says(results, tmp_path):
    study = made_of("adversarial")
    path = results.page("adversarial", PAGES["adversarial"], {"adversarial": study}, tmp_path)
    text = path.read_text("utf-8")
    assert text.startswith("# Adversarial training\n")
    assert study.headline in text
    assert all(finding.verdict in text for finding in study.findings)
    assert all(finding.mechanism in text for finding in study.findings)
    for row in study.rows:
        assert f"| {label(row.optimizer)} | {row.point['lr']:.3g} | " in text
        assert f"{100 * row.score.mean:.2f} ({100 * row.score.low:.2f} to " in text
    assert "| l∞, 4/255 | 80.12 / 56.58 | 89.85 / 66.28 |" in text
    assert "0.1 core-hours" in text  # 36 trials of 7.9 s
    assert "--trials 3 --seeds 3" in text
    low, high = made.SPACES["adam"]["lr"]
    assert f"log-uniform: lr {made.SPACES['sgd']['lr'][0]:g} to " in text
    assert f"lr {low:g} to {high:g}, weight_decay" in text
    with (tmp_path / "adversarial.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(study.records)
    assert {"optimizer", "score", "norm", "commit"} <= set(rows[0])
    assert not {"command", "machine"} & set(rows[0])  # of this machine, and on the page
    assert (tmp_path / "adversarial.png").stat().st_size > 10_000


def test_the_index_says_what_every_page_found(results, tmp_path):
    study = made_of("adversarial")
    results.page("adversarial", PAGES["adversarial"], {"adversarial": study}, tmp_path)
    text = results.index(tmp_path).read_text("utf-8")
    assert f"- [Adversarial training](adversarial.md): {study.headline}\n" in text
    assert results.index(tmp_path).read_text("utf-8") == text
    both = dict.fromkeys(PAGES["detection"]["studies"], study)
    results.page("detection", PAGES["detection"], both, tmp_path)
    text = results.index(tmp_path).read_text("utf-8")
    said = f"detection: {study.headline} detection-ssd: {study.headline}\n"
    assert f"- [Detection](detection.md): {said}" in text


def test_a_comparison_that_is_withdrawn_is_not_made(results, tmp_path):
    texts = PAGES["retrieval"]
    assert list(texts["withdrawn"]["retrieval"]) == ["sgdp"]
    path = results.page("retrieval", texts, {"retrieval": made_of("retrieval")}, tmp_path)
    text = path.read_text("utf-8")
    assert "SGDP against SGD: not decided.**" in text
    assert (
        "- SGDP against SGD: not decided. SGD's best tuning trial, at lr 0.0858, is at the" in text
    )
    assert not re.search("SGDP (is|leans)|between SGDP", text)
    assert "between AdamP and AdamW" in text or "AdamP leans" in text
    assert "SGDP against SGD: not decided.\n" in results.index(tmp_path).read_text("utf-8")


def test_norms_of_weights_that_are_not_invariant_are_not_told(results, tmp_path):
    study = made_of("language", invariant=[], metric=made.PERPLEXITY)
    studies = dict.fromkeys(PAGES["language"]["studies"], study)
    text = results.page("language", PAGES["language"], studies, tmp_path).read_text("utf-8")
    assert text.count("The audit proves no weight of this model scale-invariant") == 3
    assert not re.search(r"\| norm \||\| effective step|growth|weights end|momentum causes", text)
    with (tmp_path / "language.csv").open(newline="") as file:
        assert not {"norm", "effective_step", "memory_share"} & set(next(csv.reader(file)))


def test_p_is_adjusted_for_all_studies_of_a_page(results, tmp_path):
    plan = made.plan(("sgd", "sgdp"), trials=3, seeds=8, undecayed=False)
    scores = {"sgd": {"score": [0.9] * 8}, "sgdp": {"score": [0.95 + 0.001 * i for i in range(8)]}}
    study = report(plan, made.finished(plan, **scores))
    assert study.headline == "Accuracy: SGDP is ahead of SGD."
    texts = PAGES["audio"]
    for count, words in ((4, "is ahead of SGD: accuracy +5.35 points"), (7, "No difference")):
        studies = {f"audio-{i}": study for i in range(count)}
        text = results.page("audio", texts, studies, tmp_path).read_text("utf-8")
        assert text.count(words) >= count


@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.csv")), ids=lambda p: p.stem)
def test_published_tables_have_every_number_in_its_own_column(path):
    """The time of a step is the trial's time over its steps, and not another."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        steps = float(row["steps"])
        parts = (float(row[f"trial_{part}_s"]) for part in ("forward", "backward", "step"))
        assert float(row["step_s"]) * steps == pytest.approx(sum(parts))
        assert float(row["optimizer_s"]) * steps == pytest.approx(float(row["trial_step_s"]))


@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.md")), ids=lambda p: p.stem)
def test_published_pages_claim_nothing_from_few_seeds(path):
    text = path.read_text("utf-8")
    assert not re.search(r"(is|are) (ahead|behind)|by Holm|p [.\d]", text.replace("is called", ""))


def test_what_is_lower_is_better_is_said(results, tmp_path):
    study = made_of("language", metric=made.PERPLEXITY)
    studies = dict.fromkeys(PAGES["language"]["studies"], study)
    text = results.page("language", PAGES["language"], studies, tmp_path).read_text("utf-8")
    assert "perplexity (lower is better)" in text
    assert text.count("\n## ") == len(studies) + 2


def test_how_far_optimizers_are_above_a_floor_is_said(results):
    study = made_of("imagenet")
    means = sorted(row.score.mean for row in study.rows)
    said = results.floor(study, means[1])
    assert said.startswith(
        f"{100 * means[1]:.2f} %; {len(means) - 1} of {len(means)} optimizers are "
    )
    assert said.endswith(f"above it, the best by {100 * (means[-1] - means[1]):.2f} points")
    lower = made_of("language", metric=made.PERPLEXITY)
    least = max(row.score.mean for row in lower.rows) + 1
    assert f"{len(lower.rows)} of {len(lower.rows)} optimizers are below it" in results.floor(
        lower, least
    )


@pytest.fixture
def pages(results, tmp_path, monkeypatch, capsys):
    """Writes the pages anew from the studies of given names; returns what was printed."""
    for name in ("pages.toml", "page.md.jinja"):
        copy(DOCS / "results" / name, tmp_path)
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["results.py", "--studies", str(tmp_path)])

    def write(*names):
        study = made_of("imagenet")
        monkeypatch.setattr(results, "finished", lambda f: study if f.name in names else None)
        results.main()
        return capsys.readouterr().out

    return write


def test_a_page_names_the_studies_that_are_still_to_be_done(pages, tmp_path):
    out = pages("imagenet")
    assert "detection: not finished or not there: detection, detection-ssd" in out
    text = (tmp_path / "imagenet.md").read_text("utf-8")
    assert "\n- imagenet-cutmix: no study yet.\n" in text
    assert not (tmp_path / "detection.md").exists()
    pages("imagenet", "imagenet-cutmix")
    assert "no study yet" not in (tmp_path / "imagenet.md").read_text("utf-8")


def test_a_page_does_not_lose_a_study_that_it_tells_of(pages, tmp_path):
    pages("imagenet", "imagenet-cutmix")
    before = (tmp_path / "imagenet.md").read_text("utf-8")
    assert "imagenet: not finished or not there: imagenet-cutmix\n" in pages("imagenet")
    assert (tmp_path / "imagenet.md").read_text("utf-8") == before
