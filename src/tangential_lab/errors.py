"""How a command that fails ends: with one line on standard error and an exit status.

This module imports only the standard library, so that it also works without the extra `lab`.
"""

import json
import os
import re
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path
from shutil import get_terminal_size
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

MAX_LENGTH = 1000  # characters of a message that are printed
LEFT_OUT = re.compile(r" \.\.\. \(([\d,]+) characters left out\) \.\.\. ")  # as `shorten` writes it
TRACEBACK = "TANGENTIAL_TRACEBACK"  # environment variable: show the traceback of every error
SIGNALLED = 128  # plus the signal's number: the exit status of shells after a signal
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and how other programs end a process
PACKAGE = str(Path(__file__).parent)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which does what Ctrl-C does, but leads to another exit status."""


@contextmanager
def report_errors(*expected: type[Exception], hint: str = "") -> Iterator[None]:
    """Print an error as one line, without a traceback, and exit.

    ValueError, OSError and ImportError are raised on purpose, with a message for the user. Any
    other exception is a bug in Tangential, and the message says so.

    Args:
        expected: More exceptions that are raised on purpose.
        hint: What to do after an interruption or after one of `expected`.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk or a closed pipe is an error of this command
    except KeyboardInterrupt as error:
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        exit_with(f"Stopped. {hint}", SIGNALLED + number)
    except Exception as error:
        if not _stdout_works() and isinstance(error, BrokenPipeError):
            sys.exit(1)  # the reader stopped reading, as in `tangential list | head`
        if os.environ.get(TRACEBACK):
            raise
        exit_with(_message(error, expected, hint))


def with_lab() -> str:
    """What to pass to `pip install` for the laboratory: the folder if it was installed from one."""
    source = json.loads(distribution("tangential").read_text("direct_url.json") or "{}")
    if "dir_info" not in source:
        return "'tangential[lab]'"
    editable = "--editable " if source["dir_info"].get("editable") else ""
    return f"{editable}'{url2pathname(urlsplit(source['url']).path)}[lab]'"


def _message(error: Exception, expected: tuple[type[Exception], ...], hint: str) -> str:
    if isinstance(error, expected):
        return f"Stopped: {one_line(root_cause(error)).removesuffix('.')}. {hint}"
    if isinstance(error, OSError):
        return f"Stopped: {one_line(error).removesuffix('.')}."
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Stopped: {error.name} is not installed: run pip install {with_lab()}"
    if isinstance(error, UnicodeEncodeError):
        return (
            f"Stopped: {one_line(error.object)!r} has characters that are not {error.encoding} "
            "text: use another name, or set PYTHONUTF8=1 if the name is right"
        )
    if isinstance(error, (ValueError, ImportError)):
        return f"Stopped: {one_line(error)}"
    return (
        f"Unexpected error: {type(error).__name__}: {one_line(error)}. This is a bug in "
        f"Tangential: please report it with the traceback that {TRACEBACK}=1 shows."
    )


def exit_with(text: str, status: int = 1) -> NoReturn:
    """Print a line on standard error, wrapped at words on a terminal, and exit."""
    text = text.strip()
    if sys.stderr is not None:
        if sys.stderr.isatty():
            width = get_terminal_size().columns  # no path or URL is broken: it can be copied
            text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)
    sys.exit(status)


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """A context in which no code but Tangential's may end this process.

    A task or an optimizer that calls `sys.exit(0)` or `os._exit(0)` would end a command early,
    and scripts would take that for success.
    """
    end, process = os._exit, os.getpid()

    def end_with_error(status: int) -> NoReturn:
        caller = sys._getframe(1)
        file = caller.f_code.co_filename
        if os.getpid() == process and not file.startswith(PACKAGE):  # not a child of os.fork
            with suppress(SystemExit):
                _exit_called(f"os._exit({status})", file, caller.f_lineno)
            _stdout_works()
            status = status or 1
        end(status)

    os._exit = end_with_error
    try:
        yield
    except SystemExit as error:
        frames = traceback.extract_tb(error.__traceback__)
        file, line = [x[:2] for x in frames if not x.filename.startswith("<frozen ")][-1]
        if file.startswith(PACKAGE) or Path(file).match("rich/console.py"):  # a closed pipe
            raise
        _exit_called(f"exit({'' if error.code is None else error.code})", file, line)
    finally:
        os._exit = end


def _exit_called(call: str, file: str, line: int | None) -> NoReturn:
    exit_with(f"Stopped: {file}:{line} ends this command with {one_line(call)}: remove this call")


def one_line(message: object) -> str:
    r"""A message without line breaks and control characters, shortened if it is too long.

    >>> one_line("a\n  b \x1b[31m")
    'a b \\x1b[31m'
    """
    text = " ".join(shorten(str(message).strip()).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, max_length: int = MAX_LENGTH) -> str:
    """The text, or only its beginning and its end if it is too long.

    If the text was shortened before, the result has one mark, with the sum of both counts.

    >>> shorten("0123456789" * 10, 20)
    '0123456789 ... (80 characters left out) ... 0123456789'
    >>> shorten("Error: " + shorten("0123456789" * 10, 20), 20)
    'Error: 012 ... (87 characters left out) ... 0123456789'
    """
    half, mark = max_length // 2, LEFT_OUT.search(text)
    start, end = (text[: mark.start()], text[mark.end() :]) if mark else (text, "")
    if len(start) + len(end) <= max_length:
        return text
    if not mark:
        start, end = text[:-half], text[-half:]
    left_out = int(mark[1].replace(",", "")) if mark else 0
    left_out += max(len(start) - half, 0) + max(len(end) - half, 0)
    return f"{start[:half]} ... ({left_out:,} characters left out) ... {end[-half:]}"


def root_cause(error: BaseException) -> BaseException:
    """The original error, which libraries wrap: SQLAlchemy adds a page to a driver's one line."""
    package = type(error).__module__.partition(".")[0]
    is_readable = isinstance(error, OSError) or package in ("tangential", "tangential_lab")
    if is_readable or error.__cause__ is None:
        return error
    return root_cause(error.__cause__)


def exit_on_interrupt() -> AbstractContextManager[None]:
    """A context in which Ctrl-C ends this process at once; used while modules are imported.

    A KeyboardInterrupt would pass through modules that are half imported. Some of them catch
    every exception and continue without the import that failed.
    """

    def exit_now(number: int, _: object) -> None:
        with suppress(OSError):
            os.write(2, b"Stopped.\n")
        os._exit(SIGNALLED + number)

    return handled_by(exit_now, *INTERRUPTS)


def children_ignore_interrupts() -> AbstractContextManager[None]:
    """A context in which new processes are started that ignore Ctrl-C; their parent handles it.

    A process inherits the list of ignored signals. (It also inherits the blocked signals, but
    multiprocessing's resource tracker unblocks them.)
    """
    return handled_by(signal.SIG_IGN, *INTERRUPTS)


def terminations_are_interrupts() -> AbstractContextManager[None]:
    """A context in which SIGTERM raises Terminated, as Ctrl-C raises KeyboardInterrupt.

    Not under torchrun: a process that waits for others there could handle no signal.
    """

    def terminate(*_: object) -> None:
        raise Terminated

    return handled_by(terminate, *(() if "WORLD_SIZE" in os.environ else (signal.SIGTERM,)))


@contextmanager
def handled_by(handler: signal.Handlers | Callable[..., None], *numbers: int) -> Iterator[None]:
    """A context in which `handler` handles these signals, except those that are ignored.

    Only the main thread can handle signals, and Python cannot restore a handler written in C.
    """
    is_main = threading.current_thread() is threading.main_thread()
    usual = {number: signal.getsignal(number) for number in numbers if is_main}
    before = {n: old for n, old in usual.items() if old not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _stdout_works() -> bool:
    """Whether all output has been written; if not, Python must not try again when it exits."""
    if sys.stdout is None:
        return True
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
