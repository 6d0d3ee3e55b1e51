"""The report of a study: its rows, sentences and figures; its page and its files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tangential.files import write_atomically
from tangential_lab.reports import analysis, html, sentences, standings, tables, verdicts
from tangential_lab.reports.figures import Figure, analysis_figure, draw, study_figures
from tangential_lab.reports.rows import Row
from tangential_lab.reports.verdicts import Side
from tangential_lab.studies import Plan, schedule
from tangential_lab.styles import LineStyle, on_light
from tangential_lab.training import MEAN_COLUMNS, OPTIMIZERS, Record, Records, trial_title


class Finding(NamedTuple):
    """The sentences about an optimizer and one of its baselines."""

    optimizer: str
    baseline: str
    side: Side
    verdict: str
    mechanism: str  # or why their settings do not allow a comparison; "" if nothing was measured
    cost: str

    @property
    def texts(self) -> list[str]:
        """The sentences about score and cost that are not empty."""
        return [text for text in (self.verdict, self.cost) if text]


@dataclass(frozen=True)
class Report:
    """The summary of a study, finished or not.

    Until every optimizer has all its seeds there are no findings, and the headline says how many
    trials are done.
    """

    plan: Plan
    records: Records
    rows: list[Row]  # at each optimizer's best point

    @cached_property
    def complete(self) -> bool:
        """Whether there is a verdict."""
        return not schedule.missing(self.plan, self.records)

    @cached_property
    def size(self) -> int:
        """The number of trials that are known so far."""
        return schedule.size(self.plan, self.records)

    @cached_property
    def undecayed(self) -> list[Row]:
        """Rows at the learning rate of each optimizer's baseline, without weight decay."""
        return standings.rows(self.plan, self.records, "undecayed")

    @cached_property
    def target(self) -> float:
        """The common target score."""
        return standings.target_score(self.plan, standings.trials_of(self.plan, self.records))

    @cached_property
    def figures(self) -> list[Figure]:
        """All figures for which the trials have data."""
        figures = study_figures(self.plan, self.records)
        overview = [analysis_figure(self.plan, self.records)] if self.plan.analysis else []
        return [*(figure for figure in overview if figure.panels), *figures]

    @cached_property
    def styles(self) -> dict[str, LineStyle]:
        """How each optimizer is drawn; built-in optimizers get current colours, not the plan's."""
        baselines = {baseline for _, baseline in self.plan.comparisons}
        return {
            name: LineStyle(
                on_light(OPTIMIZERS[name].colour if name in OPTIMIZERS else optimizer.colour),
                name in baselines and not self.plan.baselines(name),
                mark,
            )
            for mark, (name, optimizer) in enumerate(self.plan.optimizers.items())
        }

    @cached_property
    def headline(self) -> str:
        """The verdict or the result in one sentence, or how many trials are done."""
        if not self.complete:
            return sentences.unfinished(self.plan, self.records)
        norms = analysis.headline(self.rows, self.undecayed) if self.plan.analysis else ""
        return norms or verdicts.headline(self.plan, self.rows)

    @cached_property
    def untuned(self) -> str:
        """The optimizers whose best point is at the edge of the search; "" if there are none."""
        return sentences.untuned(self.plan, self.records) if self.complete else ""

    @cached_property
    def uncompared(self) -> str:
        """The optimizers that cannot differ from others; "" if there are none."""
        return sentences.uncompared(self.plan, self.rows) if self.complete else ""

    @cached_property
    def findings(self) -> list[Finding]:
        """One for each comparison."""
        plan, by_name = self.plan, {row.optimizer: row for row in self.rows}
        return [
            Finding(
                optimizer=name,
                baseline=pair.baseline,
                side=verdicts.side(plan.metric, pair),
                verdict=verdicts.verdict(plan, row, by_name[pair.baseline]),
                mechanism=sentences.fair_mechanism(
                    plan, name, pair.baseline, self.rows, self.undecayed
                )
                or sentences.unfair_mechanism(row, by_name[pair.baseline]),
                cost=sentences.cost(plan, row, by_name[pair.baseline], self.target),
            )
            for name, row in (by_name.items() if self.complete else ())
            for pair in row.comparisons
        ]

    @cached_property
    def analysis(self) -> list[str]:
        """The sentences of an analysis, without the headline; [] for other studies."""
        if not self.plan.analysis:
            return []
        texts = analysis.caveats(self.plan)
        if self.complete:
            texts += analysis.mechanisms(self.plan, self.rows, self.undecayed)
            texts += [analysis.decay_effect(self.rows, self.undecayed)]
            texts += [verdicts.headline(self.plan, self.rows)]
        return [text for text in dict.fromkeys(texts) if text not in ("", self.headline)]

    @property
    def mechanisms(self) -> list[str]:
        """What each update did to the weights, where settings allow a comparison."""
        return [finding.mechanism for finding in self.findings if finding.mechanism]

    @property
    def next_steps(self) -> dict[str, str]:
        """Commands that answer the next questions, with what each answers."""
        return sentences.next_steps(self.plan) if self.complete else {}

    @property
    def sentences(self) -> list[str]:
        """The sentences about scores and cost, the headline first."""
        texts = [text for finding in self.findings for text in finding.texts]
        return [text for text in (self.headline, self.untuned, self.uncompared, *texts) if text]


def report(plan: Plan, records: Records) -> Report:
    """The report of the trials that are finished.

    Raises:
        ValueError: A trial lacks a measurement that all trials of this plan have.
    """
    columns = set(MEAN_COLUMNS)
    for spec, record in records.items():
        if plan.invariant and (record["norm"] is None or columns - record["curves"].keys()):
            raise ValueError(
                f"the record of {trial_title(*spec[:3])} has no norms of the scale-invariant "
                "weights: another version of Tangential wrote it"
            )
    if not plan.invariant:
        records = {spec: without_mechanism(record) for spec, record in records.items()}
    return Report(plan, records, standings.rows(plan, records))


def without_mechanism(record: Record) -> Record:
    """A record without norms, effective steps and causes of growth.

    If no weight is scale-invariant, older trials recorded these values for all matrices, whose
    norms say nothing about effective steps.
    """
    curves = record["curves"]
    unknown = {name: [math.nan] * len(curves["step"]) for name in MEAN_COLUMNS}
    means = dict.fromkeys(tables.MECHANISM, math.nan)
    return record | means | {"curves": curves | unknown, "layers": None}


def adjust_jointly(reports: Sequence[Report]) -> list[Report]:
    """The reports of one page, with p adjusted for all their comparisons together."""
    rows = iter(standings.adjusted([row for report in reports for row in report.rows]))
    return [replace(report, rows=[next(rows) for _ in report.rows]) for report in reports]


def page(report: Report, *, live: bool = False, version: str = "") -> str:
    """The report as one HTML page that needs no other file.

    Args:
        report: A report of a study.
        live: The page is served while the study runs: it has no links to files, and reloads when
            the study has changed.
        version: Version of the study's state, for a live page.
    """
    return html.render(
        "report.html.jinja",
        report.figures,
        report.styles,
        live=version if live else None,
        report=report,
        plan=report.plan,
        progress=sentences.progress(report.plan, report.records),
        provenance=_provenance(report.records),
    )


def _provenance(records: Records) -> dict[str, list[str]]:
    """The provenance of the trials, each different value once."""
    values: dict[str, dict[str, None]] = {}
    for record in records.values():
        for key, value in record["provenance"].items():
            if key not in ("time", "seeds"):
                values.setdefault(key, {})[_line(value)] = None
    times = sorted(record["provenance"]["time"] for record in records.values())
    span = {"time": [" to ".join(dict.fromkeys((times[0], times[-1])))]} if times else {}
    return {key: list(texts) for key, texts in values.items()} | span


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return "unknown" if value is None else str(value)


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write page, pictures and tables into `folder`; return their paths, the page first."""
    paths = write_page(page(report), report.figures, report.styles, folder)
    return [*paths, *tables.write(report.plan, report.records, folder)] if report.records else paths


def write_page(
    text: str, figures: Sequence[Figure], styles: Mapping[str, LineStyle], folder: Path
) -> list[Path]:
    """Write report.html and the pictures of its figures into `folder`; return their paths."""
    pictures, target = folder / "figures", folder / "report.html"
    pictures.mkdir(parents=True, exist_ok=True)
    paths = [path for figure in figures for path in draw(figure, styles, pictures)]
    with write_atomically(target) as file:
        file.write(text)
    return [target, *paths]
