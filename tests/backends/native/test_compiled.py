"""Life with and without the kernel: processes, threads, and messages if it is missing."""

import json
import subprocess
import sys

import pytest
import torch
from table import (
    leaf,
    needs_kernel,
)

from tangential import AdamP
from tangential.backends import native

pytestmark = needs_kernel


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


TRAIN = """
import os, signal, sys, torch
from tangential import AdamP
torch.set_num_threads(2)
params = [torch.nn.Parameter(torch.randn(300, 400)) for _ in range(3)]
optimizer = AdamP(params, lr=1e-3)
def step():
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
step()
"""


@pytest.mark.slow
def test_a_fork_after_a_step_does_not_hang():
    code = (
        TRAIN
        + """
for p in params: p.grad = torch.ones_like(p)
child = os.fork()
signal.alarm(30)
if child == 0:
    for _ in range(3): optimizer.step()
    os._exit(0)
for _ in range(3): optimizer.step()
print(os.waitpid(child, 0)[1])
"""
    )
    result = python(code)
    assert (result.stdout, result.returncode) == ("0\n", 0), result.stderr


@pytest.mark.slow
def test_no_second_openmp_runtime_and_no_more_threads_than_torchs():
    code = """
import os, torch
def runtimes():
    return sorted({l.split()[-1] for l in open('/proc/self/maps') if 'omp' in l.rsplit('/', 1)[-1]})
before = runtimes()
torch.set_num_threads(2)
torch.randn(1000, 1000).exp_().sum()
threads = len(os.listdir('/proc/self/task'))
"""
    check = "print(runtimes() == before, len(os.listdir('/proc/self/task')) - threads)"
    if not sys.platform.startswith("linux"):
        pytest.skip("looks into /proc")
    assert python(code + TRAIN + check).stdout == "True 0\n"


WITHOUT = """
import json, sys, warnings
sys.modules["tangential._native"] = None
import torch
from tangential import AdamP

def train(**options):
    params = [torch.nn.Parameter(torch.ones(3, 4))]
    optimizer = AdamP(params, lr=1e-3, **options)
    params[0].grad = torch.randn(3, 4)
    optimizer.step()
    assert not params[0].equal(torch.ones(3, 4))

said = []
for options in json.loads(sys.argv[1]):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            train(**options)
        except RuntimeError as error:
            said.append([str(error)])
        else:
            said.append([str(warning.message) for warning in caught])
print(json.dumps(said))
"""


@pytest.mark.slow
def test_without_the_kernel_foreach_takes_its_place_with_one_warning_unless_it_was_chosen():
    chosen = [{"foreach": True}, {"foreach": False}, {"fused": False}]
    result = python(WITHOUT, json.dumps([*chosen, {"fused": True}, {}, {}]))
    *quiet, [error], [warning], again = json.loads(result.stdout)
    assert quiet == [[]] * len(chosen)
    assert "fused is True, but the compiled kernel is missing" in error
    assert "the compiled kernel is missing" in warning
    assert "foreach" in warning
    assert again == []


def test_fused_and_foreach_exclude_each_other():
    with pytest.raises(ValueError, match="fused and foreach are both True"):
        AdamP([leaf(torch.ones(2))], fused=True, foreach=True)


@pytest.mark.parametrize("name", native.kernel.instruction_sets if native.kernel else [])
def test_environment_variable_chooses_the_instruction_set(name, monkeypatch):
    monkeypatch.setenv("TANGENTIAL_ISA", name)
    found = python("from tangential._native import instruction_sets; print(instruction_sets)")
    assert found.stdout.strip() == f"['{name}']"


@pytest.mark.slow
def test_unknown_instruction_set_is_named_with_those_that_exist(monkeypatch):
    monkeypatch.setenv("TANGENTIAL_ISA", "AVX1")
    said = python("from tangential.backends import native; print(native.reason())").stdout
    assert 'TANGENTIAL_ISA is "AVX1"; this machine has' in said
    assert native.kernel.instruction_sets[-1] in said
