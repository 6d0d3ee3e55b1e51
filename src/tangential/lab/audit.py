"""The command `tangential audit`: a model's audit as a table, CSV and JSON."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

from tangential.invariance.audits import audit
from tangential.invariance.evidence import Units, described
from tangential.invariance.findings import Audit, Line
from tangential.lab.source import drawn, load, mixes_samples, size_of

PAPER = 'the paper states "more than 90 %" for ResNet'
SHOWN = 12  # names in a list, unless all are asked for


def command(
    source: str,
    /,
    *,
    batches: Annotated[int, Parameter(validator=Number(gte=1))] = 3,
    batch_size: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    input_size: str | None = None,
    verify: bool = False,
    csv: Path | None = None,
    json: Path | None = None,
    all: bool = False,  # noqa: A002
    seed: int = 0,
) -> None:
    """Say which weights of a model are scale-invariant, and what the published gate makes of them.

    The model has random weights and is in training mode, its inputs are noise.

    Args:
        source: torchvision:NAME, timm:NAME, or FILE.py:FACTORY, a function that returns a model or
            a model and its batches.
        batches: Batches to look at; the gate is asked on each.
        batch_size: Samples in a batch; by default 4 for a model with BatchNorm, else 2.
        input_size: Of one sample, as 3,224,224; by default the model's own.
        verify: Prove every verdict again by rescaling the weight, a few forward passes each.
        csv: File for a line per weight.
        json: File for everything.
        all: Show every weight.
        seed: Of weights, inputs and directions.
    """
    console = Console(width=max(Console().width, 100))
    torch.manual_seed(seed)
    try:
        loaded = load(source)
        size = size_of(input_size) or loaded.size
        fresh = drawn(loaded.model) if loaded.batches is None else []
        samples = batch_size or (4 if mixes_samples(loaded.model) else 2)
        inputs = loaded.batches or [torch.randn(samples, *size) for _ in range(batches)]
    except (ValueError, ModuleNotFoundError) as error:
        console.print(f"Stopped: {error}", highlight=False, markup=False)
        sys.exit(1)
    try:
        result = audit(loaded.model, inputs, verify=verify, seed=seed)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        console.print(f"Stopped: {source}: {error}", highlight=False, markup=False)
        console.print("Give --input-size, or a FILE.py:FACTORY that brings its batches.")
        sys.exit(1)
    print_audit(result, source, console, everything=all)
    if fresh:
        console.print(f"Zero in a fresh model, so drawn: {', '.join(fresh)}.", highlight=False)
    if csv:
        result.to_csv(csv)
    if json:
        result.to_json(json)


def print_audit(result: Audit, source: str, console: Console, *, everything: bool) -> None:
    """Print the kinds, what the gate gets wrong, the catches, and the summary last."""
    shown = None if everything else SHOWN
    if everything:
        console.print(_weights(result))
    console.print(_kinds(result, source))
    for title, lines in _exceptions(result):
        _print_some(title, lines, console, shown)
    for words in result.notes:
        console.print(words, highlight=False, markup=False)
    if any(line.verified is not None for line in result.lines):
        console.print(_verification(result), highlight=False)
    paper = f" ({PAPER})" if re.search(r":resnet\d", source) else ""
    console.print(f"[bold]{result.summary}[/bold]{paper}", highlight=False)


def _kinds(result: Audit, source: str) -> Table:
    mode = f"{result.mode} mode, {result.batches} batches"
    table = Table(title=f"{source}, {mode}", title_justify="left")
    table.add_column("scale-invariant")
    for heading in ("weights", "elements", "share", "gate: row", "weight", "off", "wrong"):
        table.add_column(heading, justify="right")
    every = sum(line.size for line in result.lines)
    kinds: dict[str, list[Line]] = {}
    for line in sorted(result.lines, key=lambda line: ORDER.index(line.kind)):
        kinds.setdefault(_kind(line), []).append(line)
    for kind, lines in kinds.items():
        said = [word for line in lines for word in line.gate]
        elements = sum(line.size for line in lines)
        table.add_row(
            kind,
            str(len(lines)),
            f"{elements:,}",
            f"{100 * elements / every:.1f} %",
            *(_share(said.count(word) / len(said)) for word in ("row", "weight", "off")),
            _share(sum(line.wrong for line in lines) / len(lines)),
        )
    return table


ORDER = ("row", "weight", "variant", "dead")


def _kind(line: Line) -> str:
    if line.kind in ("row", "weight"):
        return described(Units(line.kind, line.row_axis, line.row_groups))
    if line.kind == "dead":
        return "no effect on the loss"
    return "no" if len(line.shape) > 1 else "no (vectors and scalars)"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value else ""


def _exceptions(result: Audit) -> Iterator[tuple[str, list[str]]]:
    """What is worth a look: a title and a line for every weight of it."""
    wrong = [
        f"{x.name}: scale-invariant: {_kind(x)}; gate: {' '.join(x.gate)}" for x in result.wrong
    ]
    missed = [f"{x.name}: {_kind(x)}; gate: {' '.join(x.gate)}" for x in result.missed]
    other = [x for x in result.lines if not x.wrong and not x.missed]
    flicker = [f"{x.name}: gate: {' '.join(x.gate)}" for x in other if x.flicker]
    notes = [f"{x.name}: {'; '.join(x.notes)}" for x in result.lines if x.notes]
    failed = [f"{x.name}: {_kind(x)}" for x in result.lines if x.verified is False]
    yield "Wrongly projected by the published gate", wrong
    yield "Missed by the published gate", missed
    yield "Flickering gate, otherwise right", flicker
    yield "The two proofs disagree", failed
    yield "Catches", notes


def _print_some(title: str, lines: list[str], console: Console, shown: int | None) -> None:
    if not lines:
        return
    console.print(f"[bold]{title}[/bold] ({len(lines)})", highlight=False)
    for line in lines[:shown]:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    if shown and len(lines) > shown:
        console.print(f"  and {len(lines) - shown} more (--all)", highlight=False)


def _verification(result: Audit) -> str:
    agreed = sum(bool(line.verified) for line in result.lines)
    return f"Rescaling bears out {agreed} of {len(result.lines)} verdicts."


def _weights(result: Audit) -> Table:
    table = Table(title="every weight", title_justify="left")
    for heading in ("weight", "shape", "scale-invariant", "√n |cos|", "gate", "flicker"):
        table.add_column(heading)
    for line in result.lines:
        table.add_row(
            line.name,
            "x".join(map(str, line.shape)),
            _kind(line),
            f"{line.radial:.1e}",
            " ".join(line.gate),
            _share(line.flicker),
        )
    return table
