"""Users' Python files as modules.

A file becomes the module `tangential_lab.training.user_code.FOLDER.STEM`, which any process finds
by its name. So its classes can be pickled, it can import other files in its folder, and two files
may have the same name.
"""

import ast
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import TracebackException
from types import ModuleType
from typing import Any

from tangential_lab.errors import shorten
from tangential_lab.names import did_you_mean

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


def import_factory(name: str, source: str) -> Callable[..., Any]:
    """The function MODULE:FACTORY for the optimizer `name`; ValueError if there is none."""
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
