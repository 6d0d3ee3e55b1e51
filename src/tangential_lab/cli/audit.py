"""The command `tangential audit`: the audit of a model as tables, CSV and JSON."""

import inspect
import math
import os
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import psutil
import torch
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tangential.invariance import Audit, audit
from tangential_lab.cli.audit_tables import print_audit, print_text
from tangential_lab.errors import TRACEBACK, exit_with, one_line, report_errors
from tangential_lab.files import check_writable
from tangential_lab.names import did_you_mean
from tangential_lab.training import load_function

BATCHES = 3
BYTES = 4 + 8  # per number of the input: float32, and a copy in float64
IMAGE = (3, 224, 224)
INITIAL_STD = 0.02  # of the random values that replace matrices of zeros

PositiveInt = Annotated[int, Parameter(validator=Number(gte=1))]


class _LoadedModel(NamedTuple):
    """A model with its own batches, or with the size of one input if it has no batches."""

    model: nn.Module
    batches: Iterable[Any] | None = None
    input_size: tuple[int, ...] = IMAGE


def command(
    source: str,
    /,
    *,
    batches: PositiveInt | None = None,
    batch_size: PositiveInt | None = None,
    input_size: str | None = None,
    verify: bool = False,
    csv: Path | None = None,
    json: Path | None = None,
    all: bool = False,  # noqa: A002
    seed: Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))] = 0,
) -> None:
    """Show which weights of a model are scale-invariant, and what the published gate decides.

    The model has random weights and is in training mode. Its inputs are random noise.

    Args:
        source: torchvision:NAME, timm:NAME or FILE.py:FACTORY. FACTORY is a function that returns
            a model, or a model and its batches.
        batches: Number of batches, by default 3. The gate decides on each. If FACTORY returns
            batches, this option and the next two are not allowed.
        batch_size: Samples per batch, by default 4 for a model with BatchNorm and 2 otherwise.
        input_size: Size of one sample, such as 3,224,224; by default the model's own.
        verify: Check every verdict by rescaling the weight: a few forward passes per weight.
        csv: Write one row per weight to this file.
        json: Write the whole audit to this file.
        all: Show every weight.
        seed: Seed of weights, inputs and directions.
    """
    with report_errors():
        _check_files([path for path in (csv, json) if path])
        size = None if input_size is None else _parse_size(input_size)
        torch.manual_seed(seed)
        loaded, randomised = _load_model(source), []
        if loaded.batches is None:
            randomised = _randomise_zero_matrices(loaded.model)
            inputs = _noise(loaded, size, batches or BATCHES, batch_size)
        else:
            noise = {"--batches": batches, "--batch-size": batch_size, "--input-size": input_size}
            given = [option for option, value in noise.items() if value is not None]
            if given:
                options = " and ".join(given)
                raise ValueError(f"{source} returns its own batches: leave out {options}")
            inputs = loaded.batches
        result = _audit(loaded, inputs, source, verify=verify, seed=seed)
        console = Console()
        if randomised:
            names = ", ".join(randomised)
            print_text(console, f"Zero in a new model, random in this audit: {names}.")
        print_audit(result, source, console, every_weight=all)
        if csv:
            result.to_csv(csv)
        if json:
            result.to_json(json)


def _check_files(paths: list[Path]) -> None:
    """Raise an error now, not after minutes of work, if a file cannot be written."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"--csv and --json must be two files, got {str(paths[0])!r} for both")
    for path in paths:
        check_writable(path)


def _parse_size(text: str) -> tuple[int, ...]:
    """The sizes in a text such as 3,224,224."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"input_size must be positive integers such as 3,224,224, got {text!r}")
    return tuple(map(int, parts))


def _audit(loaded: _LoadedModel, inputs: Any, source: str, *, verify: bool, seed: int) -> Audit:
    try:
        return audit(loaded.model, inputs, verify=verify, seed=seed)
    except (Exception, SystemExit) as error:  # users' models may raise anything
        if os.environ.get(TRACEBACK):
            raise
        exit_with(
            f"Stopped: {source}: {type(error).__name__}: {one_line(error).removesuffix('.')}. "
            "If the input is wrong, use --input-size, or a FILE.py:FACTORY that returns "
            "(model, batches)."
        )


def _noise(
    loaded: _LoadedModel, size: tuple[int, ...] | None, batches: int, samples: int | None
) -> list[Tensor]:
    """Batches of random inputs; ValueError if they would not fit into this machine's memory."""
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in loaded.model.modules())
    samples = samples or (4 if has_batch_norm else 2)
    shape = (samples, *(size or loaded.input_size))
    needed, memory = BYTES * batches * math.prod(shape), psutil.virtual_memory().total
    if needed > memory:
        raise ValueError(
            f"{batches} batches of {'x'.join(map(str, shape))} numbers need {_gigabytes(needed)}, "
            f"but this machine has {_gigabytes(memory)}: "
            "use smaller --batches, --batch-size or --input-size"
        )
    try:
        return [torch.randn(shape) for _ in range(batches)]
    except (MemoryError, RuntimeError) as error:
        raise ValueError(f"cannot make inputs of {'x'.join(map(str, shape))}: {error}") from error


def _gigabytes(size: int) -> str:
    """A number of bytes as text; numbers that are too large for a float are allowed.

    >>> _gigabytes(24 * 10**9), _gigabytes(10**400)
    ('24.0 GB', 'more than 10^12 GB')
    """
    return f"{size / 1e9:,.1f} GB" if size < 10**21 else "more than 10^12 GB"


# ---- models: from torchvision, timm or a user's file


def _load_model(source: str) -> _LoadedModel:
    """The model that a source names, with random weights."""
    kind, _, name = source.rpartition(":")
    if kind.endswith(".py"):
        return _from_file(Path(kind), name)
    if kind not in ("torchvision", "timm"):
        raise ValueError(
            f"source must be torchvision:NAME, timm:NAME or FILE.py:FACTORY, got {source!r}"
        )
    if not find_spec(kind):
        raise ModuleNotFoundError(f"{source} needs {kind}: pip install {kind}")
    try:
        return _from_torchvision(name) if kind == "torchvision" else _from_timm(name)
    except RuntimeError as error:  # timm raises it for an unknown tag, for example
        raise ValueError(f"{kind} cannot make {name!r}: {error}") from error


def _check_name(name: str, known: Iterable[str], library: str) -> None:
    if name not in (known := list(known)):
        raise ValueError(f"{library} has no model {name!r}.{did_you_mean(name, known)}")


def _from_torchvision(name: str) -> _LoadedModel:
    models = import_module("torchvision.models")
    _check_name(name, models.list_models(), "torchvision")
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    no_download = {"weights_backbone": None} if "weights_backbone" in parameters else {}
    model = models.get_model(name, weights=None, **no_download)
    evaluation = models.get_model_weights(name).DEFAULT.transforms()
    crop = getattr(evaluation, "crop_size", [224])
    return _LoadedModel(model, input_size=(3, crop[0], crop[-1]))


def _from_timm(name: str) -> _LoadedModel:
    timm = import_module("timm")
    _check_name(name.split(".")[0], timm.list_models(), "timm")
    model = timm.create_model(name, pretrained=False)
    size = model.pretrained_cfg.get("input_size", IMAGE)
    return _LoadedModel(model, input_size=tuple(size))


def _from_file(path: Path, name: str) -> _LoadedModel:
    factory = load_function(path, name)
    signature = inspect.signature(factory)
    try:
        signature.bind()
    except TypeError as error:
        raise ValueError(
            f"{name} in {path} must be a function without arguments, got {name}{signature}"
        ) from error
    try:
        result = factory()
    except (Exception, SystemExit) as error:  # users' code may raise anything
        raise ValueError(f"{name} in {path} failed: {type(error).__name__}: {error}") from error
    model, batches = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{name} must return a torch.nn.Module or (module, batches), "
            f"got an object of type {type(model).__name__}"
        )
    return _LoadedModel(model, batches)


def _randomise_zero_matrices(model: nn.Module) -> list[str]:
    """Give matrices that a new model sets to zero random values; return their names.

    The vision transformers of torchvision start with a head of zeros. With it, the
    gradients of all other weights are zero, and the gate could not decide on them.
    """
    names = [n for n, p in model.named_parameters() if p.dim() > 1 and p.numel() and not p.any()]
    for name in names:
        nn.init.normal_(model.get_parameter(name), std=INITIAL_STD)
    return names
