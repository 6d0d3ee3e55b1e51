"""The report of a study: what was seen, its page, its pictures and its data."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tangential.files import write_atomically
from tangential_lab.reports import charts, html, sentences, standings, stills, tables
from tangential_lab.reports.figures import Figure, Style
from tangential_lab.reports.sentences import Finding
from tangential_lab.reports.standings import Row
from tangential_lab.reports.together import Panorama, panorama
from tangential_lab.studies.plan import Plan
from tangential_lab.training.curves import MEANS
from tangential_lab.training.curves import MEANS as NORMS
from tangential_lab.training.optimizers import OPTIMIZERS
from tangential_lab.training.records import Record, Records


class Report(NamedTuple):
    """A study, finished or not, summed up.

    Without all seeds of every optimizer there are no findings, and the headline says how far it is.
    """

    plan: Plan
    records: Records
    rows: list[Row]  # at each optimizer's best point
    undecayed: list[Row]  # at its baseline's lr, without decay
    target: float  # the common one
    figures: list[Figure]
    styles: Mapping[str, Style]
    headline: str = ""
    untuned: str = ""  # whose best point is at the edge of the search
    findings: Sequence[Finding] = ()  # one per optimizer that has a baseline

    @property
    def complete(self) -> bool:
        """Whether there is a verdict."""
        return standings.complete(self.plan, self.records)

    def judged(self, rows: list[Row]) -> "Report":
        """With these rows, and what they say."""
        plan, records = self.plan, self.records
        if not self.complete:
            return self._replace(rows=rows, headline=sentences.unfinished(plan, records))
        bare_done = plan.undecayed and standings.complete(plan, records, "undecayed")
        bare = self.undecayed if bare_done else []
        return self._replace(
            rows=rows,
            headline=sentences.headline(plan, rows),
            untuned=sentences.untuned(plan, records),
            findings=sentences.findings(plan, rows, bare, self.target),
        )

    @property
    def sentences(self) -> list[str]:
        """All that is said, the headline first."""
        said = [text for finding in self.findings for text in finding.texts]
        return [text for text in (self.headline, self.untuned, *said) if text]


def report(plan: Plan, records: Records) -> Report:
    """Sum up the trials that there are.

    Raises:
        ValueError: a trial lacks what all trials of this plan have.
    """
    for spec, record in records.items():
        if plan.invariant and (record["norm"] is None or set(NORMS) - record["curves"].keys()):
            raise ValueError(
                f"the record of {spec.optimizer}, {spec.phase} trial of seed {spec.seed}, has no "
                "norms of the scale-invariant weights: another version of Tangential wrote it"
            )
    if not plan.invariant:
        records = {spec: without_mechanism(record) for spec, record in records.items()}
    rows = standings.rows(plan, records)
    return Report(
        plan=plan,
        records=records,
        rows=rows,
        undecayed=standings.rows(plan, records, "undecayed"),
        target=standings.target(plan, standings.trials(records)),
        figures=charts.figures(plan, records),
        styles=styles(plan),
    ).judged(rows)


def without_mechanism(record: Record) -> Record:
    """A record without norms, effective steps and causes of growth.

    Where the audit proved no weight scale-invariant, older trials took all matrices instead, whose
    norms say nothing about effective steps.
    """
    curves = record["curves"]
    unknown = {name: [math.nan] * len(curves["step"]) for name in MEANS}
    means = dict.fromkeys(tables.MECHANISM, math.nan)
    return record | means | {"curves": curves | unknown, "layers": None}


def jointly(reports: Sequence[Report]) -> list[Report]:
    """Reports that stand on one page, p adjusted for all their comparisons together."""
    rows = iter(standings.adjusted([row for one in reports for row in one.rows]))
    return [one.judged([next(rows) for _ in one.rows]) for one in reports]


def styles(plan: Plan) -> dict[str, Style]:
    """How each optimizer is drawn; a study may be older than the laboratory's colours."""
    colours = {
        name: OPTIMIZERS[name].colour if name in OPTIMIZERS else optimizer.colour
        for name, optimizer in plan.optimizers.items()
    }
    return {
        name: Style(html.on_light(colours[name]), optimizer.baseline is None, mark)
        for mark, (name, optimizer) in enumerate(plan.optimizers.items())
    }


def page(report: Report, *, live: bool = False, version: str = "") -> str:
    """The page as HTML, whole in itself.

    Args:
        report: Of a study.
        live: Served while the study runs: no links to files, and it asks whether there is news.
        version: Of what it shows, where it is live.
    """
    return html.render(
        "report.html.jinja",
        report.figures,
        report.styles,
        live=version if live else None,
        report=report,
        plan=report.plan,
        progress=sentences.progress(report.plan, report.records),
        whence=_whence(report.records),
    )


def _whence(records: Records) -> dict[str, list[str]]:
    """What the trials say of how they came about, each different answer once."""
    found: dict[str, dict[str, None]] = {}
    for record in records.values():
        for key, value in record["provenance"].items():
            if key not in ("time", "seeds"):
                found.setdefault(key, {})[_line(value)] = None
    times = sorted(record["provenance"]["time"] for record in records.values())
    span = {"time": [" to ".join(dict.fromkeys((times[0], times[-1])))]} if times else {}
    return {key: list(values) for key, values in found.items()} | span


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return "not known" if value is None else str(value)


def write(report: Report, folder: Path) -> list[Path]:
    """Write page, pictures and data into `folder`; return their paths, the page first."""
    paths = _paged(page(report), report.figures, report.styles, folder)
    return [*paths, *tables.write(report.plan, report.records, folder)] if report.records else paths


def together(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write a page over several studies, its pictures and its table; return their paths.

    Args:
        reports: Of the studies; those without a verdict are named and left out.
        folder: For report.html and its figures.
    """
    done = jointly([r for r in reports if r.complete])
    whole = panorama([(r.plan, r.rows) for r in done])
    pairs = zip(whole.studies, done, strict=True)
    untuned = [study.name for study, one in pairs if one.untuned]
    looks = {name: style for r in reversed(reports) for name, style in r.styles.items()}
    left = [r.plan.task for r in reports if not r.complete]
    text = html.render(
        "together.html.jinja", whole.figures, looks, whole=whole, left=left, untuned=untuned
    )
    paths = _paged(text, whole.figures, looks, folder)
    return [*paths, *tables.write_rows(_flat(whole), folder / "studies")]


def _flat(whole: Panorama) -> list[dict[str, Any]]:
    return [
        {"study": study.name, "optimizer": row.optimizer, "metric": study.metric.name}
        | {"score": row.score.mean, "score_low": row.score.low, "score_high": row.score.high}
        | {"steps_to_target": row.steps.mean if row.steps else None}
        | ({"minus": row.against.baseline, **_ends(row)} if row.against else {})
        for study in whole.studies
        for row in study.rows
    ]


def _ends(row: Row) -> dict[str, float]:
    assert row.against is not None
    found = row.against.difference
    return {"difference": found.mean, "difference_low": found.low, "difference_high": found.high}


def _paged(
    text: str, figures: Sequence[Figure], looks: Mapping[str, Style], folder: Path
) -> list[Path]:
    pictures, page_ = folder / "figures", folder / "report.html"
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = [path for figure in figures for path in stills.draw(figure, looks, pictures)]
    with write_atomically(page_) as file:
        file.write(text)
    return [page_, *drawn]
