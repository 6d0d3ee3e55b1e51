"""Models to audit, by name: of torchvision, of timm, or of a file."""

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import TracebackException
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tangential_lab.errors import cut
from tangential_lab.training import user_code as files

Size = tuple[int, ...]

DRAW = 0.02  # standard deviation of weights that a fresh model has at zero


class Source(NamedTuple):
    """A model to audit: its batches, if it brings some, and the size of an input else."""

    model: nn.Module
    batches: Iterable[Any] | None
    size: Size


def load(source: str) -> Source:
    """The model that a source names, with random weights.

    Args:
        source: "torchvision:NAME", "timm:NAME", or "FILE.py:FACTORY", a function without arguments
            that returns a model, or a model and its batches.

    Raises:
        ValueError: there is no such model, file or function; names what is near.
        ModuleNotFoundError: the library is not installed.

    >>> load("torchvision:resnet5O")
    Traceback (most recent call last):
    ValueError: torchvision has no model 'resnet5O'. Near: resnet50, resnet152, resnet34.
    """
    kind, _, name = source.rpartition(":")
    if kind.endswith(".py"):
        return _from_file(Path(kind), name)
    if kind not in LIBRARIES:
        raise ValueError(
            f"source is {source!r}, allowed are torchvision:NAME, timm:NAME and FILE.py:FACTORY"
        )
    if not find_spec(kind):
        raise ModuleNotFoundError(f"{source} needs {kind}: pip install {kind}")
    try:
        return LIBRARIES[kind](name)
    except RuntimeError as error:  # of a tag that timm does not know, for example
        raise ValueError(f"{kind} cannot make {name!r}: {error}") from error


def _known(name: str, known: Iterable[str], where: str) -> None:
    known = list(known)
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.5))
        raise ValueError(f"{where} {name!r}." + (f" Near: {near}." if near else ""))


def _torchvision(name: str) -> Source:
    models = import_module("torchvision.models")
    _known(name, models.list_models(), "torchvision has no model")
    model = models.get_model(name, weights=None, **_without_download(models, name))
    return Source(model, None, _crop(models.get_model_weights(name)))


def _without_download(models: Any, name: str) -> dict[str, None]:
    builder = models.get_model_builder(name)
    return {"weights_backbone": None} if "weights_backbone" in _arguments(builder) else {}


def _arguments(function: Callable[..., Any]) -> Iterable[str]:
    return inspect.signature(function).parameters


def _crop(weights: Any) -> Size:
    """The size that published weights were evaluated at."""
    crop = getattr(weights.DEFAULT.transforms(), "crop_size", [224])
    return (3, crop[0], crop[-1])


def _timm(name: str) -> Source:
    timm = import_module("timm")
    _known(name.split(".")[0], timm.list_models(), "timm has no model")
    model = timm.create_model(name, pretrained=False)
    return Source(model, None, tuple(model.pretrained_cfg.get("input_size", (3, 224, 224))))


LIBRARIES: dict[str, Callable[[str], Source]] = {"torchvision": _torchvision, "timm": _timm}


def _from_file(path: Path, name: str) -> Source:
    factory = in_file(path, name)
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        signature = inspect.signature(factory)
        raise ValueError(
            f"{name} in {path} must be a function without arguments, but is {name}{signature}"
        ) from error
    try:
        made = factory()
    except (Exception, SystemExit) as error:  # it is the user's, and may raise anything
        raise ValueError(f"{name} in {path} fails: {type(error).__name__}: {error}") from error
    model, batches = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{name} returned a {type(model).__name__}, "
            "expected a torch.nn.Module, or (module, batches)"
        )
    return Source(model, batches, (3, 224, 224))


def in_file(path: Path, name: str, code: bytes | None = None) -> Callable[..., Any]:
    """The function `name` of the Python file `path`, which is run.

    Args:
        path: Of the file.
        name: Of the function, or of a class.
        code: What is in the file, if it has been read already.

    Raises:
        ValueError: there is no such file or function, or the file cannot be run; says where.
    """
    code = files.code(path)[path] if code is None else code
    try:
        module = files.run(path, code)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} cannot be run: {in_words(error, path)}") from error
    functions = [n for n, x in vars(module).items() if callable(x) and not n.startswith("_")]
    _known(name, functions, f"{path} has no function")
    return getattr(module, name)


def in_words(error: BaseException, file: Path | None = None) -> str:
    r"""An exception in one line: its type, its message, and the line of code that raised it.

    Args:
        error: The exception. Of a long message the middle is left out.
        file: The line is the last one of this file that took part; by default the last of all.

    >>> in_words(ValueError("two\nlines"))
    'ValueError: two lines'
    >>> in_words(KeyboardInterrupt())
    'KeyboardInterrupt'
    """
    summary = TracebackException.from_exception(error)
    text = cut(str(summary))
    loading = {__file__, files.__file__, import_module.__code__.co_filename}
    frames = [
        (frame.filename, frame.lineno)
        for frame in summary.stack
        if frame.filename not in loading and not frame.filename.startswith("<frozen importlib")
    ]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
        text = error.msg
    own = [frame for frame in frames if file and Path(frame[0]).name == file.name]
    where = " ({}:{})".format(*(own or frames)[-1]) if frames else ""
    name = type(error).__name__
    return " ".join((f"{name}: {text}" if text else name).split()) + where


def drawn(model: nn.Module) -> list[str]:
    """Draw matrices that a fresh model has at zero; return their names.

    A head of zeros, as in torchvision's vision transformers, leaves all else without a gradient,
    so that there would be nothing to ask the gate about.

    >>> model = nn.Linear(2, 2)
    >>> _ = nn.init.zeros_(model.weight)
    >>> drawn(model)
    ['weight']
    """
    names = [n for n, p in model.named_parameters() if p.dim() > 1 and p.numel() and not p.any()]
    for name in names:
        nn.init.normal_(model.get_parameter(name), std=DRAW)
    return names


def mixes_samples(model: nn.Module) -> bool:
    """Whether a sample's output depends on the others of its batch."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def size_of(text: str | None) -> Size | None:
    """The size that a text spells, as 3,224,224."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"input_size is {text!r}, allowed are positive numbers as in 3,224,224")
    return tuple(map(int, parts))
