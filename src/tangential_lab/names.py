"""Names that users type, and how optimizers are spelt in reports."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the most similar known name; "" if none is similar.

    >>> did_you_mean("adampp", ["sgd", "adamp"]), did_you_mean("x", ["sgd"])
    (" Did you mean 'adamp'?", '')
    """
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """An error message for an unknown name; it shows the most similar name and all known names.

    >>> unknown_name("adampp", ["sgd", "adamp"], "optimizer")
    "unknown optimizer 'adampp'. Did you mean 'adamp'? Known: sgd, adamp."
    """
    known = list(known)
    return f"unknown {what} {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."


def one_of(known: Iterable[str], what: str) -> Callable[[Any, str], None]:
    """A validator for the command line: the argument must be a known name."""

    def check(_: Any, name: str) -> None:
        if name not in known:
            raise ValueError(unknown_name(name, known, what))

    return check


SPELT = {
    "sgd": "SGD",
    "sgdp": "SGDP",
    "adam": "Adam",
    "adamw": "AdamW",
    "adamp": "AdamP",
    "muon": "Muon",
}


def label(name: str) -> str:
    """An optimizer's name as its paper spells it; the name of a user's optimizer is unchanged.

    >>> label("adamp-matched"), label("mine")
    ('AdamP-matched', 'mine')
    """
    first, dash, rest = name.partition("-")
    return SPELT.get(first, first) + dash + rest
