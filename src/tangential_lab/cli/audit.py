"""The command `tangential audit`: a model's audit as a table, CSV and JSON."""

import math
import os
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from tangential.invariance import audit
from tangential_lab.cli.audit_tables import print_audit, say
from tangential_lab.errors import TRACEBACK, check_file, one_line, stop
from tangential_lab.training.source import Source, drawn, load, mixes_samples, size_of

BATCHES = 3  # of noise
BYTES = 4 + 8  # of an input's element and its copy in float64

Count = Annotated[int, Parameter(validator=Number(gte=1))]


def command(
    source: str,
    /,
    *,
    batches: Count | None = None,
    batch_size: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    input_size: str | None = None,
    verify: bool = False,
    csv: Path | None = None,
    json: Path | None = None,
    all: bool = False,  # noqa: A002
    seed: Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))] = 0,
) -> None:
    """Say which weights of a model are scale-invariant, and what the published gate makes of them.

    The model has random weights and is in training mode, its inputs are noise.

    Args:
        source: torchvision:NAME, timm:NAME, or FILE.py:FACTORY, a function that returns a model or
            a model and its batches.
        batches: Batches to look at, by default 3; the gate is asked on each. This option and the
            next two have no meaning for a FACTORY that returns its own batches.
        batch_size: Samples in a batch; by default 4 for a model with BatchNorm, else 2.
        input_size: Of one sample, as 3,224,224; by default the model's own.
        verify: Prove every verdict again by rescaling the weight, a few forward passes each.
        csv: File for a line per weight.
        json: File for everything.
        all: Show every weight.
        seed: Of weights, inputs and directions.
    """
    try:
        if csv and json and csv.resolve() == json.resolve():
            raise ValueError(f"--csv and --json are both {str(csv)!r}, but must be two files")
        for path in filter(None, (csv, json)):
            check_file(path)  # before minutes of work
        size = size_of(input_size)
        torch.manual_seed(seed)
        loaded = load(source)
        noise = {"--batches": batches, "--batch-size": batch_size, "--input-size": input_size}
        given = [option for option, value in noise.items() if value is not None]
        if loaded.batches is not None and given:
            raise ValueError(f"{source} returns its own batches: leave out {' and '.join(given)}")
        fresh = drawn(loaded.model) if loaded.batches is None else []
        inputs = _inputs(loaded, size, batches or BATCHES, batch_size)
    except (ImportError, OSError, ValueError) as error:
        stop(f"Stopped: {one_line(error)}")
    try:
        result = audit(loaded.model, inputs, verify=verify, seed=seed)
    except (Exception, SystemExit) as error:  # of the user's model, which may raise anything
        if os.environ.get(TRACEBACK):
            raise
        stop(
            f"Stopped: {source}: {type(error).__name__}: {one_line(error).removesuffix('.')}. "
            "Give --input-size if the input is wrong, or a FILE.py:FACTORY that returns "
            "(model, batches)."
        )
    console = Console()
    print_audit(result, source, console, everything=all)
    if fresh:
        say(console, f"Zero in a fresh model, so drawn: {', '.join(fresh)}.")
    if csv:
        result.to_csv(csv)
    if json:
        result.to_json(json)


def _inputs(loaded: Source, size: tuple[int, ...] | None, batches: int, samples: int | None) -> Any:
    """The model's own batches, or noise.

    Raises:
        ValueError: the batches would not fit into this machine's memory.
    """
    if loaded.batches is not None:
        return loaded.batches
    shape = (samples or (4 if mixes_samples(loaded.model) else 2), *(size or loaded.size))
    needed, there = BYTES * batches * math.prod(shape), psutil.virtual_memory().total
    if needed > there:
        raise ValueError(
            f"{batches} batches of {'x'.join(map(str, shape))} numbers need {_gigabytes(needed)}, "
            f"this machine has {_gigabytes(there)}: "
            "use smaller --batches, --batch-size or --input-size"
        )
    try:
        return [torch.randn(shape) for _ in range(batches)]
    except (MemoryError, RuntimeError) as error:
        raise ValueError(f"cannot make inputs of {'x'.join(map(str, shape))}: {error}") from error


def _gigabytes(size: int) -> str:
    """A number of bytes, in words; of any length.

    >>> _gigabytes(24 * 10**9), _gigabytes(10**400)
    ('24.0 GB', 'more than 10^12 GB')
    """
    return f"{size / 1e9:,.1f} GB" if size < 10**21 else "more than 10^12 GB"
