"""Tables and sentences that fit into a terminal."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

NUMBER_AND_UNIT = r"(\d) (?=(?:%|points|nats|steps|seeds|ms|s)(?:\W|$))"
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def fits(table: Table, width: int) -> bool:
    """Whether a terminal of this width shows the table without a line break in a cell."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum <= width


def first_that_fits(tables: Sequence[Table], width: int) -> Table:
    """The first of these tables that fits, or the last; they go from wide to narrow."""
    return next((table for table in tables if fits(table, width)), tables[-1])


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
