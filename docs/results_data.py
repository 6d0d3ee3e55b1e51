"""The files that docs/results has of each study: NAME.csv, NAME.json and NAME.png."""

import csv
import json
import math
from collections import Counter
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import NamedTuple, get_args

from tangential_lab.reports import Report, report, tables
from tangential_lab.reports.figures import Figure, Panel, draw
from tangential_lab.studies import Plan, Store, file_url
from tangential_lab.training import MEAN_COLUMNS, Phase, Record, Records, Spec

IN_JSON = ("task", "options", "versions", "command", "machine", "data")  # the same for all trials
FIGURES = ("score", "norm", "effective_step")  # of a report, side by side in the picture
OF_SWEEP = ("rates", "rotation")


class Study(NamedTuple):
    """What docs/results has of a study."""

    name: str
    report: Report
    versions: dict[str, str]
    machine: str  # that ran most of its trials
    figures: list[str]  # titles of the panels of its picture


def finished(folder: Path) -> Report | None:
    """The report of the study in this folder, if it has a verdict."""
    if not (folder / "study.db").is_file():
        return None
    store = Store(file_url(folder / "study.db"), folder.name)
    plan = store.plan()
    result = report(plan, store.records(plan))
    return result if result.complete else None


def export(name: str, study: Report, folder: Path) -> None:
    """Write the CSV, the JSON and the picture of a study into `folder`."""
    provenance = [record["provenance"] for record in study.records.values()]
    machines = Counter(values["machine"] for values in provenance)
    keys = OF_SWEEP if study.plan.sweep else FIGURES
    figures = [figure for figure in study.figures if figure.key in keys]
    facts = json.loads(study.plan.text()) | {
        "versions": provenance[0]["versions"],
        "machine": machines.most_common(1)[0][0],
        "figures": [figure.title for figure in figures],
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in facts.items()]
    (folder / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    panels = [
        panel._replace(title=_title(figure, panel)) for figure in figures for panel in figure.panels
    ]
    with TemporaryDirectory() as temporary:
        png, _ = draw(Figure(name, "", "", panels), study.styles, Path(temporary))
        copy(png, folder / f"{name}.png")
        tables.write(study.plan, study.records, Path(temporary))
        _without_constants(Path(temporary) / "trials.csv", folder / f"{name}.csv")


def _title(figure: Figure, panel: Panel) -> str:
    """Of a panel that is placed next to those of other figures."""
    return f"{figure.title}, {panel.title}" if panel.title else figure.title


def _without_constants(source: Path, target: Path) -> None:
    """Copy the table without the columns that are the same for all trials."""
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name not in IN_JSON]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def load(name: str, folder: Path) -> Study:
    """The study that `export` wrote."""
    facts = json.loads((folder / f"{name}.json").read_text("utf-8"))
    others = {key: facts.pop(key) for key in ("versions", "machine", "figures")}
    plan = Plan.of(json.dumps(facts))
    return Study(name, report(plan, _read_trials(plan, folder / f"{name}.csv")), **others)


def _read_trials(plan: Plan, path: Path) -> Records:
    """The trials of a CSV file that `export` wrote, without curves, evaluations and layers."""
    with path.open(newline="", encoding="utf-8") as file:
        return dict(_read(plan, row) for row in csv.DictReader(file))


def _read(plan: Plan, row: dict[str, str]) -> tuple[Spec, Record]:
    optimizer = plan.optimizers[row["optimizer"]]
    axes = optimizer.published if optimizer.space is None else optimizer.space
    cells = {axis: row.get(tables.setting_column(axis)) for axis in axes}
    point = tuple((axis, float(cell)) for axis, cell in cells.items() if cell)
    phase = next(phase for phase in get_args(Phase) if phase == row["phase"])
    record = {
        **{name: float(row.get(name) or math.nan) for name in tables.NUMBERS},
        "diverged": row["diverged"] == "true",
        "metrics": _numbers(tables.METRIC, row),
        "seconds": _numbers(tables.SECONDS, row),
        "curves": {name: [] for name in ("step", "loss", "lr", *MEAN_COLUMNS)},
        "scores": {"step": [], "time_s": [], "score": []},
        "layers": None,
        "provenance": {name: row[name] for name in ("commit", "time") if name in row},
    }
    return Spec(row["optimizer"], phase, int(row["seed"]), point), record


def _numbers(form: str, row: dict[str, str]) -> dict[str, float]:
    """The numbers in the columns of this form, by the part of the column's name that varies."""
    start, end = form.split("{}")
    names = [name for name in row if name.startswith(start) and name.endswith(end)]
    return {n.removeprefix(start).removesuffix(end): float(row[n]) for n in names if row[n]}
