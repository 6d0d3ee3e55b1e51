"""Run a script on several processes that form one torch.distributed group."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

START = """
import os, sys
import torch.distributed as dist
rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group(
    "gloo", init_method="file://" + os.environ["MEET"], rank=rank, world_size=processes
)
"""
# At the end of Python a thread of gloo may still need the interpreter to free a tensor, and then it
# aborts the process (SIGABRT, "terminate called without an active exception"). So skip that end.
END = """
dist.barrier()
sys.stdout.flush()
os._exit(0)
"""


def together(script, *arguments, processes=2) -> list[str]:
    """Return what each process prints; the script may use `rank`, `processes` and `dist`."""
    caller = str(Path(sys._getframe(1).f_code.co_filename).parent)
    paths = [str(Path(__file__).parent), caller, os.environ.get("PYTHONPATH")]
    command = [sys.executable, "-W", "ignore", "-c", START + script + END, *map(str, arguments)]
    environment = os.environ | {
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",  # required, but not used
        "OMP_NUM_THREADS": "1",
        "NODE_RANK": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    with tempfile.TemporaryDirectory() as folder:
        environment["MEET"] = str(Path(folder) / "meet")
        started = [
            subprocess.Popen(
                command,
                env=environment | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(processes)
        ]
        try:
            printed = [process.communicate(timeout=300) for process in started]
        finally:
            for process in started:
                process.kill()
    errors = [error for _, error in printed]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(errors)
    return [output for output, _ in printed]
