"""Tables and sentences that fit into a terminal."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

NUMBER_AND_UNIT = r"(\d) (?=(?:%|points|nats|steps|seeds|ms|s)(?:\W|$))"
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def fits(table: Table, width: int) -> bool:
    """Whether a terminal of this width shows the table without a line break in a cell."""
    return _widths(table).maximum <= width


def _widths(table: Table) -> Measurement:
    """The width of a table whose cells break at every space, and of one whose cells never do."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table)


def first_that_fits(tables: Sequence[Table], width: int) -> Table:
    """The first of these tables that fits, or the last; they go from wide to narrow."""
    return next((table for table in tables if fits(table, width)), tables[-1])


def print_table(console: Console, *tables: Table) -> None:
    """Print the first of these tables that fits, from wide to narrow, or the last one as a list.

    In the list, each row is a paragraph: its first cell, then the others with their headings.
    """
    table = first_that_fits(tables, console.width)
    if _widths(table).minimum <= console.width:
        console.print(table)  # cells may have several lines
    else:
        _print_list(console, tables[-1])


def _print_list(console: Console, table: Table) -> None:
    if table.title:
        say(console, _plain(table.title), style="italic")
    headings = [_plain(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *cells = map(_plain, row)
        say(console, f"{headings[0]}: {first}" if headings[0] and first else first)
        for heading, cell in zip(headings[1:], cells, strict=True):
            if cell:
                say(console, f"{heading}: {cell}" if heading else cell, indent="  ")


def _plain(cell: RenderableType) -> str:
    """The text of a cell in one line, without markup."""
    text = cell if isinstance(cell, Text) else Text.from_markup(str(cell))
    return " ".join(text.plain.split("\n"))


def say(console: Console, text: str, indent: str = "", style: str = "") -> None:
    """Print a paragraph, wrapped at words. What looks like markup in it is printed as it is."""
    lines = wrapped(text, console.width - len(indent)).replace("\n", f"\n{indent}")
    _print_raw(console, indent + lines, style)


def print_paths(console: Console, paths: Iterable[Path], style: str = "") -> None:
    """Print the full path of every file, one per line."""
    for path in paths:
        _print_raw(console, str(path.resolve()), style)


def _print_raw(console: Console, text: str, style: str) -> None:
    console.print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


def keep_units(text: str) -> str:
    """The text with a no-break space between every number and its unit."""
    return re.sub(NUMBER_AND_UNIT, rf"\1{NO_BREAK_SPACE}", text)


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters; a number keeps its sign and its unit.

    >>> print(wrapped("from -0.47 to +0.41 points", 15))
    from -0.47 to
    +0.41 points
    """
    lines = textwrap.wrap(
        keep_units(text),
        max(width, 1),
        break_on_hyphens=False,
        break_long_words=False,  # a path can still be copied
    )
    return "\n".join(lines).replace(NO_BREAK_SPACE, " ")
