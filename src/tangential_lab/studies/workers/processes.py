"""Child processes: their messages, and how they end."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, NamedTuple

from tangential_lab.errors import children_ignore_interrupts

SPAWN = multiprocessing.get_context("spawn")
ENDING_S = 5  # seconds for a process to end after it has closed its pipe


class Child(NamedTuple):
    """A process, and the pipe on which it sends messages."""

    process: Any
    messages: Any

    def wait(self) -> None:
        """Wait until it sends a message or ends."""
        wait([self.messages, self.process.sentinel])

    def receive(self) -> tuple[Any, str | None]:
        """Its next message, or else how it ended; both are None while it works."""
        code = self.process.exitcode
        try:
            if self.messages.poll():
                return self.messages.recv(), None
        except (EOFError, OSError):  # its end of the pipe is closed
            self.process.join(ENDING_S)
            code = self.process.exitcode
            if code is None:
                self.end()
                return None, "exec of another program"
        return None, None if code is None else ending(code)

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.messages.close()


def start(target: Callable[..., None], *arguments: Any) -> Child:
    """Start a process that calls `target` with these arguments and its end of the pipe.

    The new process ignores Ctrl-C, which its parent handles, and ends when its parent ends.
    """
    receive, send = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_main, args=(target, arguments, send))
    with children_ignore_interrupts():
        process.start()
    send.close()
    return Child(process, receive)


def _main(target: Callable[..., None], arguments: tuple[Any, ...], messages: Any) -> None:
    os.set_inheritable(messages.fileno(), False)  # exec closes it, which tells the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    target(*arguments, messages)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def ending(code: int) -> str:
    """How a process with this exit code ended.

    >>> ending(0), ending(-9)
    ('exit status 0', 'SIGKILL')
    """
    signals = {-number: number.name for number in signal.Signals}
    return f"exit status {code}" if code >= 0 else signals.get(code, f"signal {-code}")
