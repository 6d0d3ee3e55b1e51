"""Write the results pages and their index from what docs/results has of each study.

    python docs/results.py                  write all pages anew; needs nothing else
    python docs/results.py --studies DIR    first export the finished studies of a folder

Each study has three files in docs/results: NAME.csv (one row per trial), NAME.json (its plan and
where it ran) and NAME.png. The picture shows curves, which the CSV lacks: only an export draws it.
pages.toml has the question, the published figures and the limits of each page; its other words are
the report's own.
"""

import argparse
import shlex
import tomllib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template
from results_data import Study, export, finished, load

from tangential_lab.names import label
from tangential_lab.reports import Report, grid, multiples, wording
from tangential_lab.reports.study import adjust_jointly
from tangential_lab.statistics import MIN_SEEDS
from tangential_lab.studies import Plan, tuning
from tangential_lab.training import DEFAULT_OPTIMIZERS

HERE = Path(__file__).parent / "results"
CLOSING = """
"Leans ahead" and "leans behind" are not verdicts: by chance alone, one comparison in twenty has a
95 % interval that excludes 0, and every study makes several comparisons. The page of the
[laboratory](../laboratory.md#how-a-comparison-is-kept-fair) says how a study is made fair.
`python docs/results.py` writes these pages.
"""


def main() -> None:
    """Export the studies of a folder, if one is named; write every page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=Path, help="folder of studies to export first")
    folder = parser.parse_args().studies
    for task, texts in tomllib.loads((HERE / "pages.toml").read_text("utf-8")).items():
        for name in texts["studies"] if folder else ():
            if study := finished(folder / name):
                export(name, study, HERE)
            else:
                print(f"{name}: no finished study in {folder}")
        studies = [load(name, HERE) for name in texts["studies"] if (HERE / f"{name}.csv").exists()]
        print(page(task, texts, studies, HERE) if studies else f"{task}: no study yet")
    print(index(HERE))


# ---- the pages


def page(task: str, texts: dict[str, Any], studies: list[Study], folder: Path) -> Path:
    """Write a page into `folder`; return its path."""
    withdrawn = texts.get("withdrawn", {})
    kept = [without(study.report, withdrawn.get(study.name, ())) for study in studies]
    studies = [
        study._replace(report=one) for study, one in zip(studies, adjust_jointly(kept), strict=True)
    ]
    path = folder / f"{task}.md"
    template = Template(
        (HERE / "page.md.jinja").read_text("utf-8"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    floors, names = texts.get("floors", {}), [study.name for study in studies]
    text = template.render(
        texts=texts,
        studies=[_texts(s, floors.get(s.name), withdrawn.get(s.name, {})) for s in studies],
        published=texts.get("published", []),
        conclusions={k: " ".join(v.split()) for k, v in texts.get("conclusions", {}).items()},
        unfinished=[name for name in texts["studies"] if name not in names],
        hours=sum(core_hours(study.report) for study in studies),
        wording=wording,
        min_seeds=MIN_SEEDS,
        label=label,
    )
    path.write_text(text, "utf-8")
    return path


def without(study: Report, withdrawn: Collection[str]) -> Report:
    """The report without the comparisons of these optimizers."""
    return replace(
        study,
        rows=[r._replace(comparisons=[]) if r.optimizer in withdrawn else r for r in study.rows],
    )


def _texts(study: Study, floor_score: float | None, withdrawn: dict[str, str]) -> dict[str, Any]:
    """What the template needs of a study."""
    result, records = study.report, study.report.records.values()
    plan, rows = result.plan, grid(result.plan, result.records) if result.plan.sweep else []
    pairs = {pair(result, name): " ".join(text.split()) for name, text in withdrawn.items()}
    return study._asdict() | {
        "headline": result.headline + "".join(f" {names}: not decided." for names in pairs),
        "withdrawn": [f"{names}: {text}" for names, text in pairs.items()],
        "command": command(plan),
        "seeds": plan.tuning_seeds if plan.sweep else plan.seeds,
        "search": search(plan),
        "grid": rows,
        "columns": multiples(rows),
        "rates": rates(plan) if plan.sweep else "",
        "commits": sorted({str(record["provenance"]["commit"]) for record in records}),
        "diverged": sum(record["diverged"] for record in records),
        "hours": core_hours(result),
        "undetected": undetected(result),
        "spaces": "" if plan.sweep or not plan.trials else spaces(plan),
        "floor": None if floor_score is None else floor(result, floor_score),
    }


def command(plan: Plan) -> str:
    """The command that runs the same study."""
    spelled = {True: "yes", False: "no"}
    chosen = [
        f"{key}={spelled[value] if isinstance(value, bool) else value}"
        for key, value in plan.options.items()
    ]
    options = ["--set", *chosen] if chosen else []
    if tuple(plan.optimizers) != DEFAULT_OPTIMIZERS:
        options += ["--optimizers", *plan.optimizers]
    pairs = [f"{name}={other}" for name in plan.chosen_baselines for other in plan.baselines(name)]
    options += ["--baseline", *pairs] if pairs else []
    options += ["--sweep"] if plan.sweep else []
    sizes = ["--trials", str(plan.trials), "--seeds"]
    sizes += [str(plan.tuning_seeds if plan.sweep else plan.seeds)]
    for setting in ("lr", "weight_decay") if plan.given else ():
        sizes += [f"--{setting.replace('_', '-')}", *_given(plan, setting)]
    sizes += ["--epochs", f"{plan.epochs:g}"]  # the task's own length may change
    precision = plan.settings["precision"]
    sizes += ["--precision", precision] if precision != "no" else []
    return shlex.join(["tangential", "compare", plan.task, *options, *sizes])


def _given(plan: Plan, setting: str) -> list[str]:
    """A setting as an option's values: one number, or NAME=NUMBER for every optimizer."""
    values = {name: f"{plan.optimizers[name].published[setting]:g}" for name in plan.tuned}
    same = set(values.values())
    return list(same) if len(same) == 1 else [f"{k}={value}" for k, value in values.items()]


def search(plan: Plan) -> str:
    """What was searched, and what was run then."""
    if not plan.trials:
        return (
            f"Nothing was searched: every optimizer ran at the settings in the table, on the same "
            f"{plan.seeds} seeds."
        )
    kind = "on the same grid" if tuning.is_grid(plan) else "at the same quasi-random points"
    if plan.sweep:
        return (
            f"Every optimizer ran {kind}, {plan.trials} points on each of {plan.tuning_seeds} "
            "seeds; scores are those of the validation split. On every seed an optimizer has the "
            "score of the point that was best on the other seeds, so nothing is chosen on the "
            "seed that it is scored on; the table names the point that is best on all."
        )
    return (
        f"Every optimizer had {plan.trials} tuning trials {kind} of its search space. Then each "
        f"ran on {plan.seeds} seeds that tuning had not used, the same for all optimizers."
    )


def rates(plan: Plan) -> str:
    """The learning rates that the columns of a sweep are multiples of: 0.1 (SGD, SGDP); ..."""
    names: dict[str, list[str]] = {}
    for name, optimizer in plan.optimizers.items():
        names.setdefault(f"{optimizer.published['lr']:g}", []).append(label(name))
    return "; ".join(f"{lr} ({', '.join(some)})" for lr, some in names.items())


def core_hours(study: Report) -> float:
    """Hours of one core that the trials took."""
    threads = study.plan.settings["threads"]
    return threads * sum(r["seconds"]["total"] for r in study.records.values()) / 3600


def undetected(study: Report) -> str:
    """The largest difference that could go undetected here: the widest interval's half."""
    halves = [pair.difference.half for row in study.rows for pair in row.comparisons]
    return wording.gap(study.plan.metric, max(halves)).removeprefix("+")


def pair(study: Report, optimizer: str) -> str:
    """SGDP against SGD."""
    baselines = map(label, study.plan.baselines(optimizer) or ["no baseline"])
    return f"{label(optimizer)} against {' and '.join(baselines)}"


def spaces(plan: Plan) -> str:
    """The search spaces: lr 0.01 to 1, weight_decay 1e-05 to 0.1 (SGD, SGDP); ..."""
    names: dict[str, list[str]] = {}
    for name, optimizer in plan.optimizers.items():
        axes = [f"{axis} {a:g} to {b:g}" for axis, (a, b) in (optimizer.space or {}).items()]
        axes = axes or [f"around {wording.settings(optimizer.published)}"]
        names.setdefault(", ".join(axes), []).append(label(name))
    return "; ".join(f"{space} ({', '.join(some)})" for space, some in names.items())


def floor(study: Report, least: float) -> str:
    """How many optimizers are better than a score that shows too little learning."""
    metric = study.plan.metric
    means = [row.score.mean for row in study.rows]
    above = sum(metric.oriented(mean) >= metric.oriented(least) for mean in means)
    best = max(means, key=metric.oriented)
    side = "above" if metric.higher_is_better else "below"
    return (
        f"{wording.score(metric, least)}; {above} of {len(means)} optimizers are {side} it, "
        f"the best by {wording.gap(metric, abs(best - least)).removeprefix('+')}"
    )


# ---- the index


def index(folder: Path) -> Path:
    """Write README.md, the findings of all pages in `folder`; return its path."""
    lines = ["# Results of our studies", ""]
    for path in sorted(folder.glob("*.md")):
        if path.name != "README.md":
            text = path.read_text("utf-8").splitlines()
            title = text[0].removeprefix("# ")
            lines += [f"- [{title}]({path.name}): {' '.join(_headlines(path.stem, text))}"]
    target = folder / "README.md"
    target.write_text("\n".join([*lines, CLOSING]), "utf-8")
    return target


def _headlines(task: str, text: list[str]) -> list[str]:
    """The headline of each study on a page; with its name unless it is the task's only study."""
    headlines, study = {}, ""
    for line in text:
        if line.startswith("## "):
            study = line.removeprefix("## ")
        elif line.startswith("**"):
            headlines[study] = line.strip("*")
    only = headlines.keys() == {task}
    return [text if only else f"{name}: {text}" for name, text in headlines.items()]


if __name__ == "__main__":
    main()
