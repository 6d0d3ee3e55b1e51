"""Users' Python files as modules, and the optimizers in them.

A file becomes the module `tangential_lab.training.user_code.FOLDER.STEM`, which any process finds
by its name. So its classes can be pickled, it can import other files in its folder, and two files
may have the same name.
"""

import ast
import inspect
import math
import os
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import TracebackException
from types import ModuleType
from typing import Any

from tangential_lab.errors import shorten
from tangential_lab.names import did_you_mean
from tangential_lab.training.optimizers import FAMILIES, OptimizerEntry, Space, factory

USER_COLOURS = ("#332288", "#3a9a8a", "#661100", "#5f93c8", "#aa4466", "#777777")
__path__: list[str] = []  # makes this module a package of folders, each named by its path in hex


class _FolderFinder:
    """A finder for Python's import system: a folder, named by its path in hex, is a package."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        parent, _, folder = name.rpartition(".")
        if parent != __name__:
            return None
        try:
            location = os.fsdecode(bytes.fromhex(folder))
        except ValueError:  # the name of a function in this module
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [location]
        return spec


sys.meta_path.append(_FolderFinder)


def load_function(path: Path, name: str, code: bytes | None = None) -> Callable[..., Any]:
    """Run a Python file and return one of its functions or classes.

    Args:
        path: The file.
        name: The function.
        code: Content of the file, if it has been read already.

    A missing file or function, or a file that cannot be run, is a ValueError that names the line.
    """
    code = read_with_neighbours(path)[path] if code is None else code
    try:
        module = _run(path, code)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} cannot be run: {describe_error(error, path)}") from error
    functions = [n for n, x in vars(module).items() if callable(x) and n[0] != "_"]
    if name not in functions:
        raise ValueError(f"{path} has no function {name!r}.{did_you_mean(name, functions)}")
    return getattr(module, name)


def describe_error(error: BaseException, file: Path | None = None) -> str:
    r"""An exception in one line: its type, its message, and the line of code that raised it.

    Args:
        error: The exception. The middle of a long message is left out.
        file: Report the last line in this file; by default the last line of the traceback.

    >>> describe_error(ValueError("two\nlines"))
    'ValueError: two lines'
    """
    summary = TracebackException.from_exception(error)
    text = shorten(str(summary))
    importers = {__file__, import_module.__code__.co_filename}
    frames = [
        (frame.filename, frame.lineno)
        for frame in summary.stack
        if frame.filename not in importers and not frame.filename.startswith("<frozen ")
    ]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
        text = error.msg
    in_file = [frame for frame in frames if file and Path(frame[0]).name == file.name]
    place = " ({}:{})".format(*(in_file or frames)[-1]) if frames else ""
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return " ".join(text.split()) + place


def read_with_neighbours(path: Path) -> dict[Path, bytes]:
    """The content of a file and of all files in its folder that it imports; nothing is run."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    contents, unread = {}, [path]
    while unread:
        file = unread.pop()
        if file not in contents:
            contents[file] = file.read_bytes()
            unread += sorted(_neighbours(path.resolve().parent, contents[file]))
    return contents


def _neighbours(folder: Path, code: bytes) -> set[Path]:
    """The files of this folder that the code may import: modules, and all files of packages."""
    try:
        nodes = [*ast.walk(ast.parse(code))]
    except (SyntaxError, ValueError):  # running the file raises the same error, with its line
        return set()
    names = {a.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    tops = {name.split(".")[0] for name in names} - {"*"}
    modules = {path for top in tops if (path := folder / f"{top}.py").is_file()}
    return modules | {path for top in tops for path in (folder / top).rglob("*.py")}


def _run(path: Path, code: bytes) -> ModuleType:
    """The module that results from running this code of the file `path`."""
    folder = path.resolve().parent
    package = f"{__name__}.{os.fsencode(folder).hex()}"
    import_module(package)  # for `from .neighbour import ...`
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # for `import neighbour`
    name = f"{package}.{path.stem.replace('.', '_')}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    module = sys.modules[name] = module_from_spec(spec)
    try:
        # no cached bytecode: the file may have been changed within the same second
        exec(compile(code, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


# ---- optimizers


def user_optimizer(number: int, name: str, source: str, about: str | None = None) -> OptimizerEntry:
    """Import a user's optimizer; this runs its file or module.

    Args:
        number: Index among the user's optimizers, from 0; it determines the colour.
        name: Name of the optimizer.
        source: "module:factory" or "FILE.py:FACTORY". The factory takes parameter groups (dicts
            with "params", as torch's optimizers take them), and lr and weight_decay (or the
            names of its space) as keywords; it returns a `torch.optim.Optimizer` that steps
            without a closure. Its steps may change only what is in its `state_dict()` and the
            global generators of torch, NumPy and `random`: an interrupted trial continues from
            there. The factory may have the attributes `space`, {"lr": (low, high), ...}, searched
            log-uniformly; `family`, "sgd" or "adam" (the default), at or around whose published
            point it runs without tuning or without `space`; `baseline`, the one to compare with.
        about: Its description in the study's plan. If the code has changed since, it is not run.

    Raises:
        ValueError: it cannot be loaded, has changed, or one of its attributes is wrong.
    """
    module, _, function = source.rpartition(":")
    if module.endswith(".py"):
        path = Path(module)
        code = read_with_neighbours(path)
        described = _described(name, source, code, about)  # before the file is run
        build = load_function(path, function, code[path])
    else:
        build = _imported_factory(name, source)
        modules = map(sys.modules.get, (module, getattr(build, "__module__", module)))
        paths = [Path(file) for m in modules if (file := getattr(m, "__file__", None))]
        code = {path: path.read_bytes() for path in paths}
        described = _described(name, source, code, about)
    family: Any = getattr(build, "family", "adam")
    if family not in FAMILIES:
        raise ValueError(f"{name}.family must be {' or '.join(FAMILIES)}, got {family!r}")
    usual = ("sgd",) if family == "sgd" else ("adamw", "adam")
    baseline = getattr(build, "baseline", usual)
    if not (baseline is None or baseline is usual or isinstance(baseline, str)):
        raise ValueError(f"{name}.baseline must be the name of an optimizer, got {baseline!r}")
    baselines = (baseline,) if isinstance(baseline, str) else baseline or ()
    colour, space = USER_COLOURS[number % len(USER_COLOURS)], _checked_space(name, build)
    return OptimizerEntry(factory(build), described, baselines, family, colour, space)


def _described(name: str, source: str, code: Mapping[Path, bytes], planned: str | None) -> str:
    """The source and a fingerprint of the code; ValueError if it is not as planned."""
    digest = sha256(b"".join(code[path] for path in sorted(code)))
    described = f"{source} ({digest.hexdigest()[:12]})"
    if planned not in (None, described):
        raise ValueError(
            f"optimizer {name!r} was {planned} when the study was started, but on this "
            f"machine it is {described}: start the study again with `tangential compare`"
        )
    return described


def _imported_factory(name: str, source: str) -> Callable[..., Any]:
    module, _, function = source.rpartition(":")
    try:
        build = getattr(import_module(module), function)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"cannot import optimizer {name!r} from {source!r} ({describe_error(error)}): "
            "expected module:factory or FILE.py:FACTORY"
        ) from error
    if not callable(build):
        raise ValueError(f"optimizer {name!r}: {source!r} must be a function, got {build!r:.200}")
    return build


def _checked_space(name: str, build: Callable[..., Any]) -> Space | None:
    """The factory's search space, with bounds as Python floats; None if it has none."""
    space = getattr(build, "space", None)
    if space is None:
        return None
    if not isinstance(space, dict) or not all(isinstance(key, str) for key in space):
        raise ValueError(
            f'{name}.space must be a dict such as {{"lr": (1e-4, 1e-2)}}, got {space!r:.200}'
        )
    checked = {}
    for key, bounds in space.items():
        try:
            low, high = (float(bound) for bound in bounds if not isinstance(bound, (str, bool)))
        except (TypeError, ValueError, OverflowError, RuntimeError):
            low, high = math.nan, math.nan
        if not 0 < low < high < math.inf:
            raise ValueError(
                f"{name}.space[{key!r}] must be two finite numbers 0 < low < high, "
                f"got {bounds!r:.200}"
            )
        checked[key] = low, high
    missing = [key for key in _needed_keywords(build) if key not in checked]
    if checked and missing:
        raise ValueError(f"{name}.space lacks {', '.join(missing)}, which the factory needs")
    return checked


def _needed_keywords(build: Callable[..., Any]) -> list[str]:
    """The arguments without a default, except the groups; [] if the signature is unknown."""
    try:
        parameters = [*inspect.signature(build).parameters.values()][1:]
    except (TypeError, ValueError):
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in named and p.default is p.empty]
