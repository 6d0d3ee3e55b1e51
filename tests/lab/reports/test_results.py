"""The results pages: their words come from numbers, and every trial is in a table."""

import csv
import json
import re
import sys
import tomllib
from pathlib import Path
from shutil import copy

import made_study as made
import pytest

from tangential_lab.cli.study.options import default_name
from tangential_lab.experiments import NAMES, options
from tangential_lab.names import label
from tangential_lab.reports import report
from tangential_lab.statistics import MIN_SEEDS

DOCS = Path(__file__).parents[3] / "docs"
PAGES = tomllib.loads((DOCS / "results" / "pages.toml").read_text("utf-8"))
PUBLISHED = sorted(path.stem for path in (DOCS / "results").glob("*.csv"))


@pytest.fixture
def page_of(results, tmp_path):
    """Writes the page of a task whose studies are all this one; returns its text."""

    def write(task, study, names=None):
        machine = {"versions": {"torch": "2.14.1"}, "machine": "Linux, 2 cores", "figures": ["A"]}
        studies = [
            results.Study(name, study, **machine) for name in names or PAGES[task]["studies"]
        ]
        return results.page(task, PAGES[task], studies, tmp_path).read_text("utf-8")

    return write


# ---- what is published


def test_every_task_of_the_paper_has_a_page():
    assert set(PAGES) >= set(NAMES) - {"digits", "pretraining"}


@pytest.mark.parametrize("task", [task for task in PAGES if task in NAMES])
def test_studies_have_the_names_that_the_command_gives_them(task):
    names = {
        default_name(task, {name: value})
        for name, option in options(task).items()
        for value in option.choices
    }
    assert set(PAGES[task]["studies"]) <= names


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_number_of_a_published_table_is_in_its_own_column(name):
    """The time of a step is the trial's time divided by its steps."""
    with (DOCS / "results" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        steps = float(row["steps"])
        parts = (float(row[f"trial_{part}_s"]) for part in ("forward", "backward", "step"))
        assert float(row["step_s"]) * steps == pytest.approx(sum(parts))
        assert float(row["optimizer_s"]) * steps == pytest.approx(float(row["trial_step_s"]))


def seeds_of(name):
    plan = json.loads((DOCS / "results" / f"{name}.json").read_text("utf-8"))
    return plan["tuning_seeds"] if plan["sweep"] else plan["seeds"]


@pytest.mark.parametrize("page", PAGES)
def test_a_published_page_claims_nothing_from_few_seeds(page):
    text = (DOCS / "results" / f"{page}.md").read_text("utf-8").replace("is called", "")
    for study in PAGES[page]["studies"]:
        _, _, section = text.partition(f"\n## {study}\n")
        claims = re.search(
            r"(is|are) (ahead|behind)|by Holm|p [.\d]", section.partition("\n## ")[0]
        )
        assert section
        assert seeds_of(study) >= MIN_SEEDS or not claims


def test_the_published_pages_are_those_of_the_published_data(results, tmp_path, monkeypatch):
    """Writing them needs no database and no network, and gives the same text again."""
    folder = DOCS / "results"
    for path in folder.iterdir():
        if path.suffix in (".csv", ".json", ".toml", ".jinja"):
            copy(path, tmp_path)
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["results.py"])
    results.main()
    for path in folder.glob("*.md"):
        assert (tmp_path / path.name).read_text("utf-8") == path.read_text("utf-8"), path.name


# ---- a page


def test_a_page_has_the_sentences_and_numbers_of_the_report(page_of):
    study = made.of_task("adversarial")
    text = page_of("adversarial", study)
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
    assert f"(log-uniform): lr {made.SPACES['sgd']['lr'][0]:g} to " in text
    assert f"lr {low:g} to {high:g}, weight_decay" in text


def test_the_command_of_a_page_spells_options_as_the_command_line_does(results):
    plan = made.plan(task="imagenet", options={"cutmix": True, "preset": "mini"})
    assert results.command(plan).startswith(
        "tangential compare imagenet --set cutmix=yes preset=mini"
    )


def test_the_index_has_the_headlines_of_every_page(results, page_of, tmp_path):
    study = made.of_task("adversarial")
    page_of("adversarial", study)
    text = results.index(tmp_path).read_text("utf-8")
    assert f"- [Adversarial training](adversarial.md): {study.headline}\n" in text
    assert results.index(tmp_path).read_text("utf-8") == text
    page_of("detection", study)
    text = results.index(tmp_path).read_text("utf-8")
    headlines = f"detection: {study.headline} detection-ssd: {study.headline}\n"
    assert f"- [Detection](detection.md): {headlines}" in text


def test_a_withdrawn_comparison_is_not_made(results, page_of, tmp_path):
    assert list(PAGES["retrieval"]["withdrawn"]["retrieval"]) == ["sgdp"]
    text = page_of("retrieval", made.of_task("retrieval"))
    assert "SGDP against SGD: not decided.**" in text
    assert (
        "- SGDP against SGD: not decided. SGD's best tuning trial, at lr 0.0858, is at the" in text
    )
    assert not re.search("SGDP (is|leans)|between SGDP", text)
    assert "between AdamP and AdamW" in text or "AdamP leans" in text
    assert "SGDP against SGD: not decided.\n" in results.index(tmp_path).read_text("utf-8")


def test_norms_of_weights_that_are_not_invariant_are_not_shown(page_of):
    text = page_of("language", made.of_task("language", invariant=[], metric=made.PERPLEXITY))
    assert text.count("The audit proves no weight of this model scale-invariant") == 3
    assert not re.search(
        r"\| weight norm \||\| effective step|growth|weights end|momentum causes", text
    )


def test_p_is_adjusted_for_all_studies_of_a_page(page_of):
    plan = made.plan(("sgd", "sgdp"), trials=3, seeds=8, undecayed=False)
    scores = {"sgd": {"score": [0.9] * 8}, "sgdp": {"score": [0.95 + 0.001 * i for i in range(8)]}}
    study = report(plan, made.finished(plan, **scores))
    assert study.headline == "Accuracy: SGDP is ahead of SGD."
    for count, words in ((4, "is ahead of SGD: accuracy +5.35 points"), (7, "No difference")):
        text = page_of("audio", study, [f"audio-{i}" for i in range(count)])
        assert text.count(words) >= count


def test_a_page_says_if_lower_is_better(page_of):
    text = page_of("language", made.of_task("language", metric=made.PERPLEXITY))
    assert "perplexity (lower is better)" in text
    assert text.count("\n## ") == len(PAGES["language"]["studies"]) + 2


def test_a_page_says_how_many_optimizers_pass_the_floor(results):
    study = made.of_task("imagenet")
    means = sorted(row.score.mean for row in study.rows)
    text = results.floor(study, means[1])
    assert text.startswith(
        f"{100 * means[1]:.2f} %; {len(means) - 1} of {len(means)} optimizers are "
    )
    assert text.endswith(f"above it, the best by {100 * (means[-1] - means[1]):.2f} points")
    lower = made.of_task("language", metric=made.PERPLEXITY)
    least = max(row.score.mean for row in lower.rows) + 1
    count = len(lower.rows)
    assert f"{count} of {count} optimizers are below it" in results.floor(lower, least)


def test_a_sweep_has_a_table_of_its_grid_and_names_its_learning_rates(page_of):
    study = made.on_a_grid(sweep=True, trials=6, tuning_seeds=3, seeds=0)
    text = page_of("adversarial", study)
    assert "tangential compare digits --set preset=mini --optimizers sgd sgdp adamw adamp" in text
    assert "--sweep --trials 6 --seeds 3" in text
    assert ", by learning rate, with lr = 0.1 (SGD, SGDP); 0.01 (AdamW, AdamP); decay" in text
    assert (
        "\n| optimizer | decay over the run | 0.33 lr | lr | 3 lr |\n|---|---|---|---|---|\n"
        in text
    )
    rows = re.findall(r"\n\| (\w+) \| (0|0\.3) \| (\d+\.\d+ \| |diverged \| ){3}", text)
    assert len(rows) == 8
    assert "ran on the same grid, 6 points on each of 3 seeds; scores are those of the v" in text
    assert "test seeds" not in text
    assert "Search space" not in text


def test_a_study_at_given_settings_says_that_nothing_was_searched(results, page_of):
    study = made.on_a_grid(trials=0, seeds=8)
    text = page_of("adversarial", study)
    assert "Nothing was searched: every optimizer ran at the settings in the table" in text
    assert "tuning trials" not in text.split("## Published")[0]
    assert "--trials 0 --seeds 8 --epochs 30\n" in text
    given = study.plan._replace(given=True)
    chosen = given._replace(chosen_baselines={"adamp": ["adamw", "sgd"]})
    assert "--baseline adamp=adamw adamp=sgd --trials 0" in results.command(chosen)
    points = {"lr": 3e-3, "weight_decay": 0.5}
    same = {name: x._replace(published=points) for name, x in given.optimizers.items()}
    command = results.command(given._replace(optimizers=same))
    assert command.endswith("--trials 0 --seeds 8 --lr 0.003 --weight-decay 0.5 --epochs 30")
    other = same | {"sgd": same["sgd"]._replace(published=points | {"lr": 0.1})}
    command = results.command(given._replace(optimizers=other))
    assert "--lr sgd=0.1 sgdp=0.003 adamw=0.003 adamp=0.003 --weight-decay 0.5" in command
