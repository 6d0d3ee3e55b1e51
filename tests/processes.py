"""The command `tangential` and scripts, run in processes of their own."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tangential_lab.__main__ import main

PROGRAM = (sys.executable, "-m", "tangential_lab")
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        *("pytest", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor.parallel"),
        *("alembic.command", "optuna.storages", "sklearn.datasets"),
        *("tangential_lab.studies.workers", "tangential_lab.training.trial"),
    ]
)
JOIN = """
import os, sys
import torch.distributed as dist
rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group(
    "gloo", init_method="file://" + os.environ["MEET"], rank=rank, world_size=processes
)
"""
# At the end of Python a thread of gloo may still need the interpreter to free a tensor, and then it
# aborts the process (SIGABRT, "terminate called without an active exception"). So skip that end.
LEAVE = """
dist.barrier()
sys.stdout.flush()
os._exit(0)
"""


def call(capsys, *arguments):
    """Call the command in this process; return its status, its output and its errors."""
    status = 0
    try:
        main([*map(str, arguments)])
    except SystemExit as exit_:
        status = exit_.code or 0
    return status, *capsys.readouterr()


def start(*arguments, program=PROGRAM, columns=120, env=None, **options):
    """Start the command in a process group of its own, with pipes for its output and its errors."""
    usual = {"COLUMNS": str(columns), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        env=os.environ | usual | (env or {}),
        start_new_session=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
    )


def run(*arguments, **options):
    """Run the command in a process until it ends; return its status, its output and its errors."""
    [result] = finished([start(*arguments, **options)])
    return result


def finished(started):
    """Status, output and errors of every process, once all have ended."""
    try:
        printed = [process.communicate(timeout=280) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [(p.returncode, *texts) for p, texts in zip(started, printed, strict=True)]


def together(script, *arguments, processes=2) -> list[str]:
    """Run a script on several processes that form one torch.distributed group.

    Return what each process prints; the script may use `rank`, `processes` and `dist`.
    """
    caller = str(Path(sys._getframe(1).f_code.co_filename).parent)
    everywhere = {
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",  # required, but not used
        "NODE_RANK": "0",
    }
    ranks = [dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(processes)]
    with tempfile.TemporaryDirectory() as folder:
        everywhere["MEET"] = str(Path(folder) / "meet")
        results = forked(
            JOIN + script + LEAVE,
            *arguments,
            environments=[everywhere | rank for rank in ranks],
            paths=[str(Path(__file__).parent), caller],
        )
    assert [status for status, _, _ in results] == [0] * processes, results
    return [output for _, output, _ in results]


def forked(script, *arguments, environments, paths=()):
    """Status, output and errors of processes that run a script, one per environment.

    They are forked from a process that has imported torch: that takes seconds of every other one.
    """
    with tempfile.TemporaryDirectory() as folder:
        started, files = [], []
        for number, environment in enumerate(environments):
            files.append([Path(folder) / f"{number}.{name}" for name in ("out", "err")])
            given = (script, [*map(str, arguments)], os.environ | environment, [*paths], files[-1])
            started.append(FORKED.Process(target=_run_script, args=given))
            started[-1].start()
        deadline = time.monotonic() + 280
        for process in started:
            process.join(max(0, deadline - time.monotonic()))
            process.kill()
            process.join()
        return [
            (process.exitcode, *(file.read_text() if file.exists() else "" for file in pair))
            for process, pair in zip(started, files, strict=True)
        ]


def _run_script(script, arguments, environment, paths, files):
    """The main function of a forked process."""
    import torch

    os.environ.clear()
    os.environ.update(environment)
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
    sys.argv, sys.path[:0] = ["-c", *arguments], paths
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


class ForkedWorker(FORKED.Process):
    """A forked process with this one's environment, in place of a study's spawned worker."""

    def __init__(self, **options):
        super().__init__(**options)
        self.environment = dict(os.environ)

    def run(self):
        os.environ.clear()
        os.environ.update(self.environment)
        super().run()


def is_one_line(text):
    """Whether this is a single readable line, as every error is."""
    return text.endswith("\n") and text.count("\n") == 1 and len(text) <= 1300


def table_rows(text):
    """The cells of every row of a printed table."""
    lines = (line for line in text.splitlines() if line.startswith("\u2502"))
    return [[cell.strip() for cell in line.strip("\u2502").split("\u2502")] for line in lines]
