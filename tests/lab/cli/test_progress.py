"""Progress inside the trials of a study, on a terminal and in a file; something at once."""

import io
import math
import os
import random
import signal
import sys
from datetime import timedelta
from threading import Thread

import made_study as made
import pytest
from processes import PROGRAM
from rich.console import Console

from tangential_lab.cli.study import progress
from tangential_lab.cli.study.progress import Display, interruptible
from tangential_lab.errors import Terminated, terminations_are_interrupts


@pytest.fixture
def clock(monkeypatch):
    """The time of the display, which a test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def display_on(width=80, *, terminal):
    console = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)
    return Display(made.plan(trials=2, seeds=1, undecayed=False), console)


def printed(display):
    return display.console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("count", [1, 8, 9, 400])
def test_running_trials_fit(width, count, clock):
    display = display_on(width, terminal=True)
    display.show({})
    clock[0] = 1.0
    display.show({}, [i / count for i in range(count)])
    display.console.print(display.table())
    lines = printed(display).splitlines()
    assert max(map(len, lines)) <= width
    assert ("running: 88 %, 75 %, 62" in printed(display)) is (count == 8)
    assert (f"{count} trials are running: 0 % to " in printed(display)) is (count > 8)


def test_the_bar_moves_within_a_trial(clock):
    display = display_on(terminal=True)
    display.show({})
    task = display.progress.tasks[0]
    assert (task.completed, display.running.plain) == (0, "waiting for workers")
    for second, share in enumerate((0.25, 0.5), 1):
        clock[0] = second
        display.show({}, [share, 0.25])
        assert task.completed == share + 0.25
        assert display.running.plain.startswith(f"running: {100 * share:.0f} %, 25 %")
    clock[0] = 3
    display.show_share(math.nan)
    assert task.completed == 0


def test_the_time_left_counts_the_steps_of_running_trials(clock):
    display = display_on(terminal=True)
    display.show({})
    spec = display.known[0]
    clock[0] = 100.0
    display.show({spec: made.record(display.plan, spec, random.Random(0), 0.9)}, [0.5, 0.5])
    left = timedelta(seconds=(display.size - 2) * 50)  # 2 trials' worth of steps took 100 s
    assert display.progress.tasks[0].fields["left"] == f"{left} left"


def test_a_file_gets_a_line_only_after_a_silence(clock):
    display = display_on(terminal=False)
    display.show({})
    for second in range(3 * int(progress.SILENCE_S)):
        clock[0] = second
        display.show({}, [second / 100])
    assert printed(display) == "running: 30 % done\nrunning: 60 % done\n"
    clock[0] += progress.SILENCE_S
    display.show({}, [])
    assert printed(display).count("\n") == 2  # nothing runs, nothing to say


def first_output(*arguments):
    """What a command first writes to a terminal."""
    import pty

    pid, terminal = pty.fork()
    if not pid:
        os.execv(sys.executable, [*PROGRAM, *arguments])
    try:
        return os.read(terminal, 1000)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.slow
def test_a_terminal_shows_something_before_pytorch_is_loaded():
    assert first_output("list").startswith(b"Loading PyTorch ...")


def study_that_receives(numbers, said):
    with terminations_are_interrupts(), interruptible(lambda: said.append("stopping")) as stop:
        for number in numbers:
            signal.raise_signal(number)
        assert stop.is_set()
        raise KeyboardInterrupt  # as a study does, once its trials are saved


@pytest.mark.parametrize(
    ("numbers", "raised"),
    [
        ([signal.SIGINT], KeyboardInterrupt),
        ([signal.SIGTERM], Terminated),
        ([signal.SIGTERM, signal.SIGINT], Terminated),
    ],
)
def test_the_first_signal_stops_a_study_and_decides_how_it_ends(numbers, raised):
    said = []
    with pytest.raises(KeyboardInterrupt) as caught:
        study_that_receives(numbers, said)
    assert (caught.type, said) == (raised, ["stopping"])


def test_a_study_may_run_in_a_thread_which_handles_no_signals():
    seen = []

    def run():
        with interruptible(lambda: None) as stop:
            seen.append(stop.is_set())

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
