"""How a command ends that cannot do its work: one line on standard error, and an exit status.

Standard library only: this module also serves where the laboratory's packages are missing.
"""

import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import get_terminal_size
from typing import NoReturn

LONGEST = 1000  # characters of a message that are printed
CUT = re.compile(r" \.\.\. \(([\d,]+) characters left out\) \.\.\. ")  # the mark of `cut`
TRACEBACK = "TANGENTIAL_TRACEBACK"  # environment variable: show the traceback of every error


@contextmanager
def reported(*expected: type[Exception], hint: str = "") -> Iterator[None]:
    """Print an error as one line, without a traceback, and exit.

    ValueError, OSError and ImportError are raised on purpose, with a message for the user. Any
    other exception is a bug of ours, and the message says so.

    Args:
        expected: More exceptions that are raised on purpose.
        hint: What to do after an interruption or one of `expected`.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk or a closed pipe is an error of this command
    except KeyboardInterrupt:
        stop(f"Stopped. {hint}", 130)
    except Exception as error:
        if not _stdout_works() and isinstance(error, BrokenPipeError):
            sys.exit(1)  # the reader has all that it wants, as in `tangential list | head`
        if os.environ.get(TRACEBACK):
            raise
        if isinstance(error, expected):
            stop(f"Stopped: {one_line(innermost(error)).removesuffix('.')}. {hint}")
        if isinstance(error, OSError):
            stop(f"Stopped: {one_line(error).removesuffix('.')}.")
        if isinstance(error, (ValueError, ImportError)):
            stop(f"Stopped: {_missing(error) or one_line(error)}")
        stop(
            f"Unexpected error: {type(error).__name__}: {one_line(error)}. This is a bug in "
            f"Tangential: please report it with the traceback that {TRACEBACK}=1 shows."
        )


def stop(text: str, code: int = 1) -> NoReturn:
    """Print a line on standard error, wrapped at words on a terminal, and exit."""
    text = text.strip()
    if sys.stderr is not None:
        if sys.stderr.isatty():
            text = textwrap.fill(
                text,
                get_terminal_size().columns,
                break_long_words=False,  # a path or a URL can still be copied
                break_on_hyphens=False,
            )
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)
    sys.exit(code)


def one_line(message: object) -> str:
    r"""A message without line breaks and control characters, cut where it is too long.

    >>> one_line("a\n  b \x1b[31m")
    'a b \\x1b[31m'
    """
    text = " ".join(cut(str(message).strip()).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and its end where it is too long.

    A text that was cut before has one mark afterwards, too, with the count of both cuts.

    >>> cut("0123456789" * 10, 20)
    '0123456789 ... (80 characters left out) ... 0123456789'
    >>> cut("Error: " + cut("0123456789" * 10, 20), 20)
    'Error: 012 ... (87 characters left out) ... 0123456789'
    """
    half, mark = longest // 2, CUT.search(text)
    start, end = (text[: mark.start()], text[mark.end() :]) if mark else (text, "")
    if len(start) + len(end) <= longest:
        return text
    if not mark:
        start, end = text[:-half], text[-half:]
    left_out = int(mark[1].replace(",", "")) if mark else 0
    left_out += max(len(start) - half, 0) + max(len(end) - half, 0)
    return f"{start[:half]} ... ({left_out:,} characters left out) ... {end[-half:]}"


@contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Processes that are started here never hear Ctrl-C: their parent decides what it means.

    A process inherits which signals are ignored. (Also the mask of blocked ones, but
    multiprocessing's resource tracker unblocks them.)
    """
    if threading.current_thread() is not threading.main_thread():  # may not change it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check_file(path: Path) -> None:
    """Raise now the OSError that writing to `path` would raise later; the file is not changed."""
    is_new = not os.path.lexists(path)
    with path.open("a"):
        pass
    if is_new:
        path.unlink()


def check_folder(folder: Path) -> None:
    """Make the folder; raise now the OSError that writing a file into it would raise later."""
    folder.mkdir(parents=True, exist_ok=True)
    check_file(folder / f".{os.getpid()}.partial")


def _missing(error: Exception) -> str:
    """What to install where the import of a package failed, else nothing."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return f"{name} is not installed: run pip install 'tangential[lab]'" if name else ""


def innermost(error: BaseException) -> BaseException:
    """The error that libraries wrapped in their own: SQLAlchemy adds a page to a driver's line."""
    while not _is_ours(error) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_ours(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or package in ("tangential", "tangential_lab")


def _stdout_works() -> bool:
    """Whether what was printed has been written; if not, Python must not try again at its end."""
    if sys.stdout is None:
        return True
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
