"""The examples are short, run and train, and the docs show all of them."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from processes import run

ROOT = Path(__file__).parents[2]
EXAMPLES = {path.stem: path for path in (ROOT / "examples").glob("*.py")}
LEAST = {  # test accuracy, %
    "accelerate_digits": 90,
    "compiled_bf16_digits": 88,
    "equinox_digits": 85,
    "flax_digits": 90,
    "fsdp2_digits": 90,
    "keras_digits": 88,
    "lightning_digits": 90,
    "lora_digits": 85,
    "plain_digits": 90,
    "timm_digits": 90,
    "trainer_digits": 90,
}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
PROCESSES = {"fsdp2_digits": TORCHRUN}


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.slow
def test_example_trains(name, tmp_path):
    program = (sys.executable, *PROCESSES.get(name, ()))
    status, printed, errors = run(EXAMPLES[name], program=program, cwd=tmp_path)
    assert status == 0, errors
    assert float(re.search(r"^test accuracy ([\d.]+)%$", printed, re.MULTILINE)[1]) > LEAST[name]


def test_an_example_for_several_processes_says_how_to_start_it():
    with pytest.raises(SystemExit, match=r"^Start it with torchrun --standalone "):
        runpy.run_path(str(EXAMPLES["fsdp2_digits"]), run_name="__main__")


def test_every_example_is_short_and_tested():
    assert EXAMPLES.keys() == LEAST.keys()
    for path in EXAMPLES.values():
        assert len(path.read_text("utf-8").splitlines()) < 60, path.name


def test_the_docs_show_every_example():
    page = (ROOT / "docs/examples.md").read_text("utf-8")
    assert set(re.findall(r"examples/(\w+)\.py", page)) == EXAMPLES.keys()
