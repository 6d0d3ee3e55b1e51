"""Write the results pages of finished studies, a figure and a table each, and their index.

    python docs/results.py [--studies runs]

A page says what its studies found, beside what is published. Its words are the report's own, made
from the numbers; docs/results/pages.toml has the question, the published figures and the limits.
It names the studies that nobody has finished yet. Where one that it tells of is not in the folder,
the page stays as it was.
"""

import argparse
import csv
import shlex
import tomllib
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tangential_lab.names import label
from tangential_lab.reports import Report, report, tables, wording
from tangential_lab.reports.figures import Figure, draw
from tangential_lab.reports.statistics import MIN_SEEDS
from tangential_lab.reports.study import adjust_jointly
from tangential_lab.studies.database import file_url
from tangential_lab.studies.store import Store

HERE = Path(__file__).parent / "results"
CLOSING = """
"Leans ahead" and "leans behind" are no verdicts: by chance alone, one comparison in twenty has a
95 % interval that excludes 0, and every study makes three. How a study is made fair stands in the
[README](../../README.md); a page is written from the study's records by `python docs/results.py`.
"""
ON_THE_PAGE = ("task", "options", "versions", "command", "machine", "data")
SHOWN = ("score", "norm", "effective_step")  # figures of a report, side by side on the page


def main():
    """Write every page that has a finished study, and would not lose one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=Path, default=Path("runs"), help="folder of the studies")
    folder = parser.parse_args().studies
    for task, texts in tomllib.loads((HERE / "pages.toml").read_text("utf-8")).items():
        found = {name: finished(folder / name) for name in texts["studies"]}
        done = {name: one for name, one in found.items() if one}
        lost = [n for n in found if n not in done and (HERE / f"{n}.csv").exists()]
        if done and not lost:
            print(page(task, texts, done, HERE))
        else:
            print(f"{task}: not finished or not there: {', '.join(lost or found)}")
    print(index(HERE))


def index(folder: Path) -> Path:
    """Write README.md, what all pages in `folder` found; return it."""
    lines = ["# What studies found here", ""]
    for path in sorted(folder.glob("*.md")):
        if path.name != "README.md":
            text = path.read_text("utf-8").splitlines()
            title = text[0].removeprefix("# ")
            lines += [f"- [{title}]({path.name}): {' '.join(_verdicts(path.stem, text))}"]
    target = folder / "README.md"
    target.write_text("\n".join([*lines, CLOSING]), "utf-8")
    return target


def _verdicts(task: str, text: list[str]) -> list[str]:
    """What a page's studies found, each by its name where it is not the task's only one."""
    found, study = {}, ""
    for line in text:
        if line.startswith("## "):
            study = line.removeprefix("## ")
        elif line.startswith("**"):
            found[study] = line.strip("*")
    return [*found.values()] if found.keys() == {task} else [f"{k}: {v}" for k, v in found.items()]


def finished(folder: Path) -> Report | None:
    """The report of the study in this folder, if it has a verdict."""
    if not (folder / "study.db").is_file():
        return None
    store = Store(file_url(folder / "study.db"), folder.name)
    plan = store.plan()
    found = report(plan, store.records(plan))
    return found if found.complete else None


def page(task: str, texts: dict, studies: dict[str, Report], folder: Path) -> Path:
    """Write a page, its figures and its data into `folder`; return the page."""
    withdrawn = texts.get("withdrawn", {})
    kept = [without(study, withdrawn.get(name, ())) for name, study in studies.items()]
    studies = dict(zip(studies, adjust_jointly(kept), strict=True))
    for name, study in studies.items():
        _drawn(name, study, folder)
    look = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    path = folder / f"{task}.md"
    text = look.get_template("page.md.jinja").render(
        texts=texts,
        studies={
            n: _told(study, texts["floors"].get(n), withdrawn.get(n, {}))
            for n, study in studies.items()
        },
        unfinished=[name for name in texts["studies"] if name not in studies],
        hours=sum(map(core_hours, studies.values())),
        wording=wording,
        min_seeds=MIN_SEEDS,
        label=label,
    )
    path.write_text(text, "utf-8")
    return path


def without(study: Report, withdrawn: Collection[str]) -> Report:
    """The study without the comparisons of these optimizers."""
    return study.with_rows(
        [row._replace(against=None) if row.optimizer in withdrawn else row for row in study.rows]
    )


def _drawn(name: str, study: Report, folder: Path) -> None:
    """The figures on the page, as one, and the table of the trials."""
    panels = [figure.panels[0]._replace(title=figure.title) for figure in shown(study)]
    whole = Figure(name, "", "", panels)
    with TemporaryDirectory() as aside:
        png, _ = draw(whole, study.styles, Path(aside))
        copy(png, folder / f"{name}.png")
        tables.write(study.plan, study.records, Path(aside))
        _without_constants(Path(aside) / "trials.csv", folder / f"{name}.csv")


def shown(study: Report) -> list[Figure]:
    """The figures on the page."""
    return [figure for figure in study.figures if figure.key in SHOWN]


def _without_constants(source: Path, target: Path) -> None:
    """The table without what is the same for all trials and stands on the page."""
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [name for name in rows[0] if name not in ON_THE_PAGE]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _told(study: Report, least: float | None, withdrawn: dict[str, str]) -> dict:
    """What the template needs of a study."""
    open_ = [f" {pair(study, optimizer)}: not decided." for optimizer in withdrawn]
    whence = [record["provenance"] for record in study.records.values()]
    versions = whence[0]["versions"]
    return {
        "report": study,
        "headline": study.headline + "".join(open_),
        "withdrawn": [
            f"{pair(study, optimizer)}: {' '.join(text.split())}"
            for optimizer, text in withdrawn.items()
        ],
        "shows": "; ".join(figure.title for figure in shown(study)),
        "command": command(study),
        "commits": sorted({str(one["commit"]) for one in whence}),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "machine": Counter(one["machine"] for one in whence).most_common(1)[0][0],
        "diverged": sum(record["diverged"] for record in study.records.values()),
        "hours": core_hours(study),
        "unseen": unseen(study),
        "searched": searched(study),
        "floor": None if least is None else floor(study, least),
    }


def command(study: Report) -> str:
    """The command that gives the same study."""
    plan = study.plan
    chosen = [f"{key}={value}" for key, value in plan.options.items()]
    options = ["--set", *chosen] if chosen else []
    sizes = ["--trials", str(plan.trials), "--seeds", str(plan.seeds)]
    precision = plan.settings["precision"]
    sizes += ["--precision", precision] if precision != "no" else []
    return shlex.join(["tangential", "compare", plan.task, *options, *sizes])


def core_hours(study: Report) -> float:
    """Hours of one core that the trials took."""
    threads = study.plan.settings["threads"]
    return threads * sum(r["seconds"]["total"] for r in study.records.values()) / 3600


def unseen(study: Report) -> str:
    """The largest of the differences that no comparison here could have told from none."""
    halves = [row.against.difference.half for row in study.rows if row.against]
    return wording.gap(study.plan.metric, max(halves)).removeprefix("+")


def pair(study: Report, optimizer: str) -> str:
    """SGDP against SGD."""
    baseline = study.plan.baseline(optimizer) or "no baseline"
    return f"{label(optimizer)} against {label(baseline)}"


def searched(study: Report) -> str:
    """Where optimizers were searched: lr 0.01 to 1, weight_decay 1e-05 to 0.1 (sgd, sgdp); ..."""
    spaces: dict[str, list[str]] = {}
    for name, optimizer in study.plan.optimizers.items():
        axes = [f"{key} {low:g} to {high:g}" for key, (low, high) in optimizer.space.items()]
        spaces.setdefault(", ".join(axes), []).append(label(name))
    return "; ".join(f"{space} ({', '.join(names)})" for space, names in spaces.items())


def floor(study: Report, least: float) -> str:
    """How many optimizers pass a score that a net that has learnt little does not reach."""
    metric = study.plan.metric
    means = [row.score.mean for row in study.rows]
    above = sum(metric.oriented(mean) >= metric.oriented(least) for mean in means)
    best = max(means, key=metric.oriented)
    side = "above" if metric.higher else "below"
    return (
        f"{wording.score(metric, least)}; {above} of {len(means)} optimizers are {side} it, "
        f"the best by {wording.gap(metric, abs(best - least)).removeprefix('+')}"
    )


if __name__ == "__main__":
    main()
