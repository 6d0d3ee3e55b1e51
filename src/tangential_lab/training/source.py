"""Functions from users' Python files, and their errors in one line."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from traceback import TracebackException
from typing import Any

from tangential_lab.errors import shorten
from tangential_lab.names import did_you_mean
from tangential_lab.training import user_code as files


def load_function(path: Path, name: str, code: bytes | None = None) -> Callable[..., Any]:
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
        raise ValueError(f"{path} cannot be run: {describe_error(error, path)}") from error
    functions = [n for n, x in vars(module).items() if callable(x) and not n.startswith("_")]
    if name not in functions:
        raise ValueError(f"{path} has no function {name!r}.{did_you_mean(name, functions)}")
    return getattr(module, name)


def describe_error(error: BaseException, file: Path | None = None) -> str:
    r"""An exception in one line: its type, its message, and the line of code that raised it.

    Args:
        error: The exception. Of a long message the middle is left out.
        file: The line is the last one of this file that took part; by default the last of all.

    >>> describe_error(ValueError("two\nlines"))
    'ValueError: two lines'
    >>> describe_error(KeyboardInterrupt())
    'KeyboardInterrupt'
    """
    summary = TracebackException.from_exception(error)
    text = shorten(str(summary))
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
