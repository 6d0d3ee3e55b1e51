"""What `tangential toy gate` prints."""

import math
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tangential_lab.terminal import print_table, say
from tangential_lab.theory.gate import PAIRS, ChanceRates, Examined

PUBLISHED = 0.1  # the default delta
FEW = (0.01, 0.1, 1.0)  # the deltas that a narrow terminal shows


def print_gate(console: Console, rates: list[ChanceRates], examined: list[Examined]) -> None:
    """Print how often the gate fires, by chance and for the examples, and what to do."""
    print_table(console, _chance_table(rates))
    say(console, _about_chance(rates), style="dim")
    deltas = list(examined[0].by_delta)
    print_table(console, *(_examples_table(examined, some) for some in (deltas, FEW)))
    say(console, _about_examples(), style="dim")
    say(console, advice(rates, examined))


def _chance_table(rates: list[ChanceRates]) -> Table:
    title = "How often a random pair passes a test, in %"
    headings = ["delta", "formula", "weight", *(f"{rows} rows" for rows in rates[0].row_view)]
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for rate in rates:
        simulated = (rate.layer_view, *rate.row_view.values())
        table.add_row(f"{rate.delta:g}", _percent(rate.formula), *map(_percent, simulated))
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _about_chance(rates: list[ChanceRates]) -> str:
    rows = max(rates[0].row_view)
    [rate] = [rate for rate in rates if rate.delta == PUBLISHED]
    return (
        f"Formula: erf(delta / sqrt 2), for the single test of the weight (layer view). The other "
        f"columns are simulated on {PAIRS:,} pairs. All rows must pass (row view), so the formula "
        f"is raised to the power of the rows: {rate.formula**rows:.1e} for {rows} rows at "
        f"delta = {PUBLISHED:g}."
    )


def _examples_table(examined: list[Examined], deltas: Iterable[float]) -> Table:
    """Two rows per example: what the gate projects, and the radial part that steps keep."""
    deltas = list(deltas)
    title = "Small modules: steps projected by row/as a whole, in %; radial part of a step"
    table = Table("weight, normalisation", title=title, title_justify="left")
    for heading in (*(f"{delta:g}" for delta in deltas), "units"):
        table.add_column(heading, justify="right", no_wrap=True)
    for example in examined:
        treatments = [example.by_delta[delta] for delta in deltas]
        projected = (f"{100 * t.by_row:.0f}/{100 * t.by_weight:.0f}" for t in treatments)
        table.add_row(example.name, *projected, "")
        radial = (*(t.radial for t in treatments), example.radial_with_units)
        table.add_row(f"  {example.in_words}", *map(_radial, radial), style="dim")
    return table


def _radial(share: float) -> str:
    if math.isnan(share):
        return "-"
    return f"{share:.3f}" if share >= 0.0005 else f"{share:.0e}"


def _about_examples() -> str:
    return (
        "Columns: delta of the published gate; units: AdamP with param_groups from the audit. "
        "Second line: how the weight is scale-invariant, as the audit proves, and the mean "
        "|cos(w, step)| per unit, the part of a step that changes only its norm."
    )


def advice(rates: list[ChanceRates], examined: list[Examined]) -> str:
    """What a user should do, in one sentence with the numbers that say why."""
    invariant = [example for example in examined if example.units.projection != "off"]
    left = max(example.by_delta[PUBLISHED].radial for example in invariant)
    least = max(min(t.radial for t in example.by_delta.values()) for example in invariant)
    with_units = max(example.radial_with_units for example in invariant)
    by_row = [example for example in invariant if example.in_words == "by row"]
    smallest, largest = min(rates), max(rates)
    missed = 1 - min(example.by_delta[smallest.delta].by_row for example in by_row)
    return (
        f"What to do: leave delta at {PUBLISHED:g} and pass tangential.param_groups(model, "
        "tangential.audit(model, batches)) to the optimizer, because the audit's units lower the "
        f"radial part of a step from up to {left:.2g} to at most {with_units:.0e}, which no "
        f"delta does (at best {least:.2g}), while delta = {largest.delta:g} would project "
        f"{100 * largest.layer_view:.0f} % of random weights and delta = {smallest.delta:g} misses "
        f"the rows before BatchNorm in {100 * missed:.0f} % of the steps if inputs are small."
    )
