"""Models that `tangential audit` loads by name: from torchvision, timm or a user's file."""

import inspect
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from tangential_lab.names import did_you_mean
from tangential_lab.training import load_function

IMAGE = (3, 224, 224)
INITIAL_STD = 0.02  # of the random values that replace matrices of zeros


class LoadedModel(NamedTuple):
    """A model with its own batches, or with the size of one input if it has no batches."""

    model: nn.Module
    batches: Iterable[Any] | None = None
    input_size: tuple[int, ...] = IMAGE


def load_model(source: str) -> LoadedModel:
    """The model that a source names, with random weights.

    Args:
        source: "torchvision:NAME", "timm:NAME" or "FILE.py:FACTORY". FACTORY is a function without
            arguments that returns a model, or a model and its batches.

    Raises:
        ValueError: there is no such model, file or function.
        ModuleNotFoundError: the library is not installed.

    >>> load_model("torchvision:resnet5O")
    Traceback (most recent call last):
    ValueError: torchvision has no model 'resnet5O'. Did you mean 'resnet50'?
    """
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


def _from_torchvision(name: str) -> LoadedModel:
    models = import_module("torchvision.models")
    _check_name(name, models.list_models(), "torchvision")
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    no_download = {"weights_backbone": None} if "weights_backbone" in parameters else {}
    model = models.get_model(name, weights=None, **no_download)
    evaluation = models.get_model_weights(name).DEFAULT.transforms()
    crop = getattr(evaluation, "crop_size", [224])
    return LoadedModel(model, input_size=(3, crop[0], crop[-1]))


def _from_timm(name: str) -> LoadedModel:
    timm = import_module("timm")
    _check_name(name.split(".")[0], timm.list_models(), "timm")
    model = timm.create_model(name, pretrained=False)
    size = model.pretrained_cfg.get("input_size", IMAGE)
    return LoadedModel(model, input_size=tuple(size))


def _from_file(path: Path, name: str) -> LoadedModel:
    factory = load_function(path, name)
    signature = inspect.signature(factory)
    try:
        signature.bind()
    except TypeError as error:
        raise ValueError(
            f"{name} in {path} must be a function without arguments, got {name}{signature}"
        ) from error
    try:
        made = factory()
    except (Exception, SystemExit) as error:  # users' code may raise anything
        raise ValueError(f"{name} in {path} failed: {type(error).__name__}: {error}") from error
    model, batches = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{name} must return a torch.nn.Module or (module, batches), "
            f"got an object of type {type(model).__name__}"
        )
    return LoadedModel(model, batches)


def randomise_zero_matrices(model: nn.Module) -> list[str]:
    """Give matrices that a new model sets to zero random values; return their names.

    The vision transformers of torchvision start with a head of zeros. With it, the
    gradients of all other weights are zero, and the gate could not decide on them.

    >>> model = nn.Linear(2, 2)
    >>> _ = nn.init.zeros_(model.weight)
    >>> randomise_zero_matrices(model)
    ['weight']
    """
    names = [n for n, p in model.named_parameters() if p.dim() > 1 and p.numel() and not p.any()]
    for name in names:
        nn.init.normal_(model.get_parameter(name), std=INITIAL_STD)
    return names
