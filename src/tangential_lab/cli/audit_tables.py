"""An audit on the terminal: its kinds, what is worth a look, and every weight."""

import re
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential.invariance import Audit, Line, described
from tangential_lab.errors import one_line
from tangential_lab.terminal import fits, sentence

PAPER = 'the paper states "more than 90 %" for ResNet'
SHOWN = 12  # names in a list, unless all are asked for


def print_audit(result: Audit, source: str, console: Console, *, everything: bool) -> None:
    """Print the kinds, what the gate gets wrong, the caveats, and the summary last."""
    shown = None if everything else SHOWN
    if everything:
        _print_weights(result, console)
    say(console, f"{source}, {result.mode} mode, {result.batches} batches", style="italic")
    for table in _kinds(result, console.width):
        console.print(table)
    for title, lines in _exceptions(result):
        _print_some(title, lines, console, shown)
    for words in result.notes:
        say(console, words)
    if any(line.verified is not None for line in result.lines):
        say(console, _verification(result))
    paper = f" ({PAPER})" if re.search(r":resnet\d", source) else ""
    say(console, f"{result.summary}{paper}", style="bold")


def say(console: Console, text: str, indent: str = "", style: str = "") -> None:
    """Print text, wrapped at words; what a model's author named is not taken for markup."""
    width = console.width - len(indent)
    lines = sentence(one_line(text), width).replace("\n", f"\n{indent}")
    console.print(
        indent + lines, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def _kinds(result: Audit, width: int) -> list[Table]:
    """One table, or on a narrow terminal two: the sizes, and the gate's verdicts."""
    sizes, gate = ("weights", "elements", "share"), ("gate: row", "weight", "off", "wrong")
    rows = _rows_of_kinds(result)
    whole = _table((*sizes, *gate), rows)
    if fits(whole, width):
        return [whole]
    return [
        _table(sizes, [row[:4] for row in rows]),
        _table(gate, [(row[0], *row[4:]) for row in rows]),
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    table.add_column("scale-invariant")
    for heading in headings:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _rows_of_kinds(result: Audit) -> list[tuple[str, ...]]:
    every = sum(line.size for line in result.lines)
    kinds: dict[str, list[Line]] = {}
    for line in sorted(result.lines, key=lambda line: ORDER.index(line.kind)):
        kinds.setdefault(_kind(line), []).append(line)
    rows = []
    for kind, lines in kinds.items():
        said = [word for line in lines for word in line.gate]
        elements = sum(line.size for line in lines)
        rows.append(
            (
                kind,
                str(len(lines)),
                f"{elements:,}",
                f"{100 * elements / max(every, 1):.1f} %",
                *(_share(said.count(word) / len(said)) for word in ("row", "weight", "off")),
                _share(sum(line.wrong for line in lines) / len(lines)),
            )
        )
    return rows


ORDER = ("row", "weight", "variant", "dead")


def _kind(line: Line) -> str:
    if line.kind in ("row", "weight"):
        return described(line.units)
    if line.kind == "dead":
        return "no effect on the loss"
    return "no" if len(line.shape) > 1 else "no (vectors and scalars)"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value else ""


def _exceptions(result: Audit) -> Iterator[tuple[str, list[str]]]:
    """What is worth a look: a title with what to do, and its weights, each under one title."""
    titles: dict[str, list[str]] = {title: [] for title in TITLES}
    for line in result.lines:
        if title := _title(line):
            titles[title].append(_in_words(line))
    yield from titles.items()


DISAGREE = "The two proofs disagree"
BIASED = "Scale-invariant but for a bias: build the layer with bias=False"
WRONG = "Wrongly projected by the published gate: param_groups(model, audit) turns that off"
MISSED = "Missed by the published gate: param_groups(model, audit) sets their units"
FLICKER = "Flickering gate, otherwise right"
IDLE = "Biases without effect: build the layer with bias=False"
NOTED = "Other notes"
TITLES = (DISAGREE, BIASED, WRONG, MISSED, FLICKER, IDLE, NOTED)


def _title(line: Line) -> str:
    """The first title that a weight belongs under, or none."""
    tests = {
        DISAGREE: line.verified is False,
        BIASED: line.remedy and line.kind == "variant",
        WRONG: line.wrong,
        MISSED: line.missed,
        FLICKER: line.flicker,
        IDLE: line.remedy,
        NOTED: line.notes,
    }
    return next((title for title, holds in tests.items() if holds), "")


def _in_words(line: Line) -> str:
    """What there is to say of a weight: its kind and gate if they do not agree, then its caveats.

    The remedy of a bias is its own layer's, unless it says otherwise.
    """
    gate = f"gate: {' '.join(line.gate)}"
    said = {
        DISAGREE: [_kind(line)],
        BIASED: [gate],
        WRONG: [f"scale-invariant: {_kind(line)}", gate],
        MISSED: [_kind(line), gate],
        FLICKER: [gate],
    }
    parts = [*said.get(_title(line), []), *line.notes]
    if line.remedy:
        parts.append(f"remedy: {line.remedy}")
    return f"{line.name}: {'; '.join(parts)}"


def _print_some(title: str, lines: list[str], console: Console, shown: int | None) -> None:
    if not lines:
        return
    say(console, f"{title} ({len(lines)})", style="bold")
    for line in lines[:shown]:
        say(console, line, indent="  ")
    if shown and len(lines) > shown:
        say(console, f"and {len(lines) - shown} more (--all)", indent="  ")


def _verification(result: Audit) -> str:
    agreed = sum(bool(line.verified) for line in result.lines)
    return f"Rescaling bears out {agreed} of {len(result.lines)} verdicts."


HEADINGS = ("weight", "shape", "scale-invariant", "√n |cos|", "gate", "flicker")


def _print_weights(result: Audit, console: Console) -> None:
    """A table of every weight; on a narrow terminal a paragraph each."""
    rows = [
        (
            one_line(line.name),
            "x".join(map(str, line.shape)) or "scalar",
            _kind(line),
            f"{line.radial:.1e}",
            " ".join(line.gate),
            _share(line.flicker),
        )
        for line in result.lines
    ]
    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    say(console, "every weight", style="italic")
    if fits(table, console.width):
        console.print(table)
        return
    for name, *cells in rows:
        named = zip(HEADINGS[1:], cells, strict=True)
        say(console, name)
        say(console, "; ".join(f"{key}: {cell}" for key, cell in named if cell), indent="  ")
