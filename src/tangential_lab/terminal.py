"""Tables and sentences that fit a terminal."""

import re
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

UNITS = r"(\d) (?=(?:%|points|nats|steps|seeds|ms|s)(?:\W|$))"  # of a number, which it stays with
JOINT = "\N{NO-BREAK SPACE}"


def fits(table: Table, width: int) -> bool:
    """Whether a terminal of this width shows the table without a break in a cell."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum <= width


def fitting(tables: Sequence[Table], width: int) -> Table:
    """The first of these tables that fits, or the last.

    Args:
        tables: The same content, from the widest layout to the narrowest.
        width: Of the terminal, in characters.
    """
    return next((table for table in tables if fits(table, width)), tables[-1])


def whole(text: str) -> str:
    """Text that does not break between a number and its unit."""
    return re.sub(UNITS, rf"\1{JOINT}", text)


def sentence(text: str, width: int) -> str:
    """Text in lines of at most `width` characters; a number keeps its sign and its unit.

    >>> print(sentence("from -0.47 to +0.41 points", 15))
    from -0.47 to
    +0.41 points
    """
    lines = textwrap.wrap(
        whole(text),
        max(width, 1),
        break_on_hyphens=False,
        break_long_words=False,  # a path can still be copied
    )
    return "\n".join(lines).replace(JOINT, " ")
