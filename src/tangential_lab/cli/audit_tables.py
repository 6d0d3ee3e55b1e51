"""The audit on a terminal: a table of kinds, weights to look at, and every weight with --all."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential.invariance import Audit, Line, units_in_words
from tangential_lab.errors import one_line
from tangential_lab.terminal import fits, print_table, say

PAPER = 'the paper states "more than 90 %" for ResNet'
SHOWN = 12  # weights per section, unless the user asks for all
KINDS = ("row", "weight", "variant", "dead")
VERDICTS = ("row", "weight", "off")
HEADINGS = ("weight", "shape", "scale-invariant", "√n |cos|", "gate", "flicker")


class Section(NamedTuple):
    """Weights that need a look: what is wrong and what to do, a test for them, facts to show."""

    title: str
    holds: Callable[[Line], object]
    facts: tuple[Callable[[Line], str], ...] = ()


def print_audit(result: Audit, source: str, console: Console, *, every_weight: bool) -> None:
    """Print the table of kinds, the weights to look at, the notes, and then the summary."""
    if every_weight:
        _print_weights(result, console)
    batches = "1 batch" if result.batches == 1 else f"{result.batches} batches"
    print_text(console, f"{source}, {result.mode} mode, {batches}", style="italic")
    _print_kinds(result, console)
    for section in SECTIONS:
        lines = [line for line in result.lines if _section_of(line) is section]
        if lines:
            _print_section(section, lines, console, len(lines) if every_weight else SHOWN)
    for note in result.notes:
        print_text(console, note)
    checked = [line.verified for line in result.lines if line.verified is not None]
    if checked:
        agreed = f"{sum(checked)} of {len(result.lines)}"
        print_text(console, f"Rescaling confirms {agreed} verdicts.")
    paper = f" ({PAPER})" if re.search(r":resnet\d", source) else ""
    print_text(console, f"{result.summary}{paper}", style="bold")


def print_text(console: Console, text: str, indent: str = "", style: str = "") -> None:
    """Print a paragraph; it may contain names of a user's model."""
    say(console, one_line(text), indent, style)


# ---- kinds


def _print_kinds(result: Audit, console: Console) -> None:
    """Print one table, or two on a narrow terminal: the sizes, and the gate's verdicts."""
    sizes, gate = ("weights", "elements", "share"), ("gate: row", "weight", "off", "wrong")
    rows = _kind_rows(result)
    table = _kind_table((*sizes, *gate), rows)
    if fits(table, console.width):
        console.print(table)
    else:
        print_table(console, _kind_table(sizes, [row[:4] for row in rows]))
        print_table(console, _kind_table(gate, [(row[0], *row[4:]) for row in rows]))


def _kind_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table("scale-invariant")
    for heading in headings:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _kind_rows(result: Audit) -> list[tuple[str, ...]]:
    total = sum(line.size for line in result.lines)
    kinds: dict[str, list[Line]] = {}
    for line in sorted(result.lines, key=lambda line: KINDS.index(line.kind)):
        kinds.setdefault(_kind(line), []).append(line)
    rows = []
    for kind, lines in kinds.items():
        verdicts = [verdict for line in lines for verdict in line.gate]
        elements = sum(line.size for line in lines)
        sizes = (str(len(lines)), f"{elements:,}", f"{100 * elements / max(total, 1):.1f} %")
        gate = (_percent(verdicts.count(verdict) / len(verdicts)) for verdict in VERDICTS)
        rows.append((kind, *sizes, *gate, _percent(sum(line.wrong for line in lines) / len(lines))))
    return rows


def _kind(line: Line) -> str:
    if line.kind in ("row", "weight"):
        return units_in_words(line.units)
    if line.kind == "dead":
        return "no effect on the loss"
    return "no" if len(line.shape) > 1 else "no (vectors and scalars)"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share else ""


# ---- weights to look at


def _truth(line: Line) -> str:
    return f"scale-invariant: {_kind(line)}"


def _gate(line: Line) -> str:
    return f"gate: {' '.join(line.gate)}"


SECTIONS = (
    Section(
        "The audit and the check by rescaling disagree", lambda x: x.verified is False, (_truth,)
    ),
    Section(
        "Not scale-invariant only because of a bias: build the layer with bias=False",
        lambda x: x.remedy and x.kind == "variant",
        (_gate,),
    ),
    Section(
        "The published gate projects these wrongly: param_groups(model, audit) prevents it",
        lambda x: x.wrong,
        (_truth, _gate),
    ),
    Section(
        "The published gate misses these: param_groups(model, audit) sets their units",
        lambda x: x.missed,
        (_truth, _gate),
    ),
    Section("The gate decides differently per batch, without harm", lambda x: x.flicker, (_gate,)),
    Section("Biases without effect: build the layer with bias=False", lambda x: x.remedy),
    Section("Other notes", lambda x: x.notes),
)


def _section_of(line: Line) -> Section | None:
    """The first section whose test is true; a weight appears only there."""
    return next((section for section in SECTIONS if section.holds(line)), None)


def _print_section(section: Section, lines: list[Line], console: Console, shown: int) -> None:
    print_text(console, f"{section.title} ({len(lines)})", style="bold")
    for line in lines[:shown]:
        remedy = [f"remedy: {line.remedy}"] if line.remedy else []
        facts = [*(fact(line) for fact in section.facts), *line.notes, *remedy]
        print_text(console, f"{line.name}: {'; '.join(facts)}", indent="  ")
    if len(lines) > shown:
        print_text(console, f"and {len(lines) - shown} more (--all)", indent="  ")


# ---- every weight


def _print_weights(result: Audit, console: Console) -> None:
    """Print a table, or on a narrow terminal one paragraph per weight."""
    rows = [
        (
            one_line(line.name),
            "x".join(map(str, line.shape)) or "scalar",
            _kind(line),
            f"{line.radial:.1e}",
            " ".join(line.gate),
            _percent(line.flicker),
        )
        for line in result.lines
    ]
    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    print_text(console, "every weight", style="italic")
    if fits(table, console.width):
        console.print(table)
        return
    for name, *cells in rows:
        labelled = zip(HEADINGS[1:], cells, strict=True)
        print_text(console, name)
        text = "; ".join(f"{heading}: {cell}" for heading, cell in labelled if cell)
        print_text(console, text, indent="  ")
