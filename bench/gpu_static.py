"""Compile the Triton kernels for several GPUs, without one, and print what each of them needs.

    python bench/gpu_static.py            sm_80 (A100), sm_90 (H100, H200), sm_100 (B200)
    python bench/gpu_static.py 90         one of them

Per kernel: registers of a thread, bytes that spill from registers to memory (0 is wanted), and
shared memory. Then the bytes per weight that a step moves: gpu_bytes.py counts them.
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from tangential.backends.triton import kernels
from tangential.backends.triton.changes import WARPS_AROUND
from tangential.backends.triton.launches import WARPS

ARCHITECTURES = (80, 90, 100)
USUAL = {
    "adam": True, "nesterov": False, "maximize": False, "projection": 0, "rounding": 0,
    "watched": False, "lr_on_device": False, "scaled": False, "weight": tl.float32,
    "moment": tl.float32, "lost": 0,
}  # fmt: skip
FORMS = {
    "AdamP float32": {},
    "SGDP float32": {"adam": False},
    "AdamP bfloat16, stochastic": {
        "weight": tl.bfloat16, "moment": tl.bfloat16, "lost": 16, "rounding": 1,
    },
}  # fmt: skip
INTEGERS = dict.fromkeys(("tiles", "noise", "guesses", "decisions", "amended"), "*i32")
FLOATS = dict.fromkeys(("corrections", "coefs", "sums"), "*fp32")
ABSENT = ("lr", "grad_scale", "found_inf")
AROUND = {  # of `project`
    ("copies", "measure"): {"copies": True},
    ("changes", "measure"): {"copies": False},
    ("linear rules", "amend_changes"): {"linear": True, "late": False, "scale": None},
    ("other rules", "amend_changes"): {"linear": False, "late": False},
}


class Needs(NamedTuple):
    """What a compiled kernel needs."""

    registers: int
    spilt_bytes: int
    shared_bytes: int


def needs(name: str, form: dict[str, Any], architecture: int) -> Needs:
    """Compile a kernel for a GPU of this architecture."""
    fields = kernels.Tables._fields
    types = dict.fromkeys(fields, "*i64") | INTEGERS | FLOATS
    types |= dict.fromkeys(ABSENT, "constexpr")
    signature = {
        "t": kernels.Tables(**types),
        "n": kernels.Numbers(*["fp32"] * len(kernels.Numbers._fields)),
        "f": "constexpr",
    }
    constants: dict[Any, Any] = {(0, fields.index(field)): None for field in ABSENT}
    source = ASTSource(
        getattr(kernels, name), signature, constants | {"f": kernels.Form(**(USUAL | form))}
    )
    return _needs(source, architecture, WARPS)


def needs_around(name: str, architecture: int, **form: bool | None) -> Needs:
    """Compile a kernel of `project`, which has no scale if that is None in its form."""
    fields = kernels.Changes._fields
    types = dict.fromkeys(fields, "*i64") | {"tiles": "*i32", "whole": "*i1"}
    types |= dict.fromkeys(("sums", "scale", "shrink", "slope"), "*fp32")
    constants: dict[Any, Any] = {}
    if "scale" in form:
        types["scale"] = "constexpr"
        constants[0, fields.index("scale")] = form.pop("scale")
    signature = {"t": kernels.Changes(**types)} | dict.fromkeys(form, "constexpr")
    source = ASTSource(getattr(kernels, name), signature, constants | form)
    return _needs(source, architecture, WARPS_AROUND)


def _needs(source: ASTSource, architecture: int, warps: int) -> Needs:
    options = {"num_warps": warps}
    compiled = triton.compile(source, GPUTarget("cuda", architecture, 32), options)
    said = _assembled(compiled.asm["ptx"], architecture)
    registers = re.search(r"Used (\d+) registers", said)
    spilt = re.findall(r"(\d+) bytes spill", said)
    assert registers, said
    return Needs(int(registers[1]), sum(map(int, spilt)), compiled.metadata.shared)


def _assembled(ptx: str, architecture: int) -> str:
    """What the assembler says about a program. Triton has an assembler of its own for sm_100."""
    target = re.search(r"\.target (\w+)", ptx)
    assert target
    with TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [get_ptxas(architecture).path, "-v", f"--gpu-name={target[1]}"]
        command += [source, "-o", source.with_suffix(".bin")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def main() -> None:
    """Print a table."""
    for architecture in map(int, sys.argv[1:] or ARCHITECTURES):
        every = {
            (title, name): needs(name, form, architecture)
            for title, form in FORMS.items()
            for name in ("guess", "advance", "judge", "amend")
        }
        for (title, name), form in AROUND.items():
            every[title, name] = needs_around(name, architecture, **form)
        for (title, name), found in every.items():
            print(
                f"sm_{architecture:<4} {title:28} {name:13} {found.registers:4} registers, "
                f"{found.spilt_bytes} bytes spilt, {found.shared_bytes} bytes shared"
            )
    # in a process of its own, because Triton chooses its interpreter when it is imported
    subprocess.run([sys.executable, Path(__file__).with_name("gpu_bytes.py")], check=True)


if __name__ == "__main__":
    main()
