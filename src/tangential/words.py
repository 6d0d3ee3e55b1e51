"""Names in sentences, and in files that a spreadsheet may open."""

from collections.abc import Iterable

NAMED = 3  # names that a sentence has
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # how a cell begins that a spreadsheet runs


def listed(names: Iterable[str]) -> str:
    """Some names and how many more: a, b, c and 2 more.

    >>> listed("abcde")
    'a, b, c and 2 more'
    """
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more


def literal(text: str) -> str:
    """A text for a CSV file that no spreadsheet takes for a formula: such begin with a quote.

    >>> literal("=1+1"), literal("a=1")
    ("'=1+1", 'a=1')
    """
    return f"'{text}" if text.startswith(FORMULA) else text
