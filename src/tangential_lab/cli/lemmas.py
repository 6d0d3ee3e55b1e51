"""The command `tangential lemmas`."""

import sys

from rich.console import Console
from rich.table import Table

from tangential_lab.terminal import print_table, say
from tangential_lab.theory import Lemma, all_lemmas

NOTES = (
    "Effective step: |w_new/|w_new| - w/|w||. It is exactly 2 sin(angle / 2), where "
    "tan(angle) = lr |q| / ((1 - lr decay) |w| - lr p.w / |w|), p is the update, and q is p "
    "without its part along w. In a projected step p = q, and the last term is 0.",
    "The estimate lr |p| / |w_new| is exactly |p| / |q| cos(angle / 2) times the effective step. "
    "So its error is at most 1 - |q| / |p| or 1 / cos(angle / 2) - 1, whichever is larger: "
    '"allowed" is this bound for the row and step with the largest error.',
)


def lemmas() -> None:
    """Measure the paper's claims, and claims derived from them, on steps of real optimizers.

    Exact claims must hold to 1e-12, estimates to the error that follows from theory, equilibria
    to 3 %. The exit status is 1 if a claim fails.
    """
    console = Console()
    with console.status("taking steps ..."):
        results = list(all_lemmas())
    print_table(console, _wide(results), _narrow(results))
    for note in NOTES:
        say(console, note, style="dim")
    failed = [lemma.name for lemma in results if not lemma.holds]
    for name in failed:
        console.print(f"Does not hold: {name}", highlight=False, soft_wrap=True)
    sys.exit(1 if failed else 0)


def _wide(results: list[Lemma]) -> Table:
    table = _table("claim", "source", numbers=("claimed", "measured", "error", "allowed", ""))
    for lemma in results:
        table.add_row(*_cells(lemma))
    return table


def _narrow(results: list[Lemma]) -> Table:
    table = _table("claim", numbers=("claimed,\nmeasured", "error,\nallowed", ""))
    for lemma in results:
        name, source, claimed, measured, error, allowed, holds = _cells(lemma)
        claim = f"{name} ({source})"
        table.add_row(claim, f"{claimed}\n{measured}", f"{error}\n{allowed}", holds)
    return table


def _table(*names: str, numbers: tuple[str, ...]) -> Table:
    title = "Claims: the worst case among all rows and steps"
    table = Table(*names, title=title, title_justify="left")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(lemma: Lemma) -> tuple[str, ...]:
    digits = ".12g" if lemma.exact else ".5f"
    return (
        lemma.name,
        lemma.source,
        f"{lemma.claimed:{digits}}",
        f"{lemma.measured:{digits if lemma.claimed else '.1e'}}",
        f"{lemma.error:.1e}" if lemma.exact else f"{100 * lemma.error:.3g} %",
        f"{lemma.allowed:g}" if lemma.exact else f"{100 * lemma.allowed:.3g} %",
        "holds" if lemma.holds else "[red]fails[/red]",
    )
