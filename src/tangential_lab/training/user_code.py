"""Users' Python files as modules, `tangential_lab.training.user_code.FOLDER.STEM`.

A module that can be found by its name in any process: a file may have dataclasses, its classes can
be pickled, it can import its neighbours, and two files may have the same name.
"""

import ast
import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

__path__: list[str] = []  # makes this a package: of folders, each named by its path in hex


class Folders:
    """Finds the folders, as Python's import system asks for them."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The folder of this name, as a package."""
        parent, _, folder = name.rpartition(".")
        if parent != __name__:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [os.fsdecode(bytes.fromhex(folder))]
        return spec


sys.meta_path.append(Folders)


def code(path: Path) -> dict[Path, bytes]:
    """What is in a file and in the neighbours that it imports, and they; it is not run.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    found, left = {}, [path]
    while left:
        one = left.pop()
        if one not in found:
            found[one] = one.read_bytes()
            left += sorted(_neighbours(path.resolve().parent, found[one]))
    return found


def _neighbours(folder: Path, code: bytes) -> set[Path]:
    """The files in this folder that the code may import: modules, and all files of packages."""
    try:
        nodes = [*ast.walk(ast.parse(code))]
    except (SyntaxError, ValueError):  # whoever runs it says so
        return set()
    names = {a.name for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    tops = {name.split(".")[0] for name in names} - {"*"}
    modules = {path for top in tops if (path := folder / f"{top}.py").is_file()}
    return modules | {path for top in tops for path in (folder / top).rglob("*.py")}


def run(path: Path, code: bytes) -> ModuleType:
    """The module that this code of the file `path` makes; anything that it raises is passed on.

    The file's folder is added to the end of Python's search path, for `import neighbour`.
    """
    folder = path.resolve().parent
    package = f"{__name__}.{os.fsencode(folder).hex()}"
    import_module(package)  # for `from .neighbour import ...`
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    name = f"{package}.{path.stem.replace('.', '_')}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    module = sys.modules[name] = module_from_spec(spec)
    try:
        # no cached bytecode: it may be of a file that was changed within the same second
        exec(compile(code, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module
