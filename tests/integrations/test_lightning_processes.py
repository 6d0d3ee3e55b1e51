"""The monitor in Lightning's Trainer on two processes."""

import json
import os

import pytest
from lightning_runs import Module, logged, quiet
from processes import together
from trainings import BATCH, by_hand

pytestmark = [pytest.mark.slow, *quiet]


class Process:
    """A sink that writes to a file which process logs which step."""

    def __init__(self, path):
        self.path = path

    def __call__(self, values, step):
        with open(self.path, "a") as file:
            file.write(json.dumps([os.getpid(), step, values["all/grad_norm"]]) + "\n")


class Half(Module):
    """Uses every second row; the second process uses the others."""

    def loss(self, batch, first=None):
        first = self.global_rank if first is None else first
        return super().loss([part[first::2] for part in batch])


TWO_PROCESSES = """
from pathlib import Path
from lightning_runs import fit
from tangential.integrations.lightning import LightningMonitor
from test_lightning_processes import Half, Process
from trainings import BATCH, EVERY
folder = Path(sys.argv[1])
two = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
monitor = LightningMonitor(EVERY, Process(folder / "recorded"))
fit(folder, Half(), monitor, batch=2 * BATCH, **two)
"""


def test_two_processes_log_once(tmp_path):
    together(TWO_PROCESSES, tmp_path)
    recorded, twin = tmp_path / "recorded", Half()
    pids, steps, norms = zip(*map(json.loads, recorded.read_text().splitlines()), strict=True)
    assert len(set(pids)) == 1
    assert steps == (0, 3)
    assert [step for step, _ in logged(tmp_path, "all/norm")] == [0, 3]
    mean = by_hand(twin, lambda x: (twin.loss(x, 0) + twin.loss(x, 1)) / 2, batch=2 * BATCH)
    assert norms == pytest.approx([values["all/grad_norm"] for _, values in mean], rel=1e-5)
