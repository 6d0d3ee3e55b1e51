"""The command `tangential` and scripts, run in processes of their own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tangential_lab.__main__ import main

PROGRAM = (sys.executable, "-m", "tangential_lab")
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
    paths = [str(Path(__file__).parent), caller, os.environ.get("PYTHONPATH")]
    program = (sys.executable, "-W", "ignore", "-c", JOIN + script + LEAVE)
    environment = {
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",  # required, but not used
        "OMP_NUM_THREADS": "1",
        "NODE_RANK": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    with tempfile.TemporaryDirectory() as folder:
        environment["MEET"] = str(Path(folder) / "meet")
        ranks = [dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(processes)]
        results = finished(
            [start(*arguments, program=program, env=environment | rank) for rank in ranks]
        )
    assert [status for status, _, _ in results] == [0] * processes, results
    return [output for _, output, _ in results]


def is_one_line(text):
    """Whether this is a single readable line, as every error is."""
    return text.endswith("\n") and text.count("\n") == 1 and len(text) <= 1300


def table_rows(text):
    """The cells of every row of a printed table."""
    lines = (line for line in text.splitlines() if line.startswith("\u2502"))
    return [[cell.strip() for cell in line.strip("\u2502").split("\u2502")] for line in lines]
