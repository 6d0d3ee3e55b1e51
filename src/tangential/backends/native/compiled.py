"""The compiled kernel, or why it is missing, and when a step wants it."""

import shutil
import sysconfig
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tangential.backends.batch import StepOptions

kernel: Any = None
missing = ""
try:
    kernel = import_module("tangential._native")
except ImportError as error:
    missing = str(error)

# returns the address of a tensor without a call through Python; exists since torch 2.10
EXCHANGE = getattr(Tensor, "__dlpack_c_exchange_api__", None)

TINY = torch.finfo(torch.float32).tiny


def reason() -> str:
    """Why the kernel is missing, and how to install it; "" if it is installed."""
    if kernel is not None:
        return ""
    if "TANGENTIAL_ISA" in missing:
        return f"the compiled kernel does not run: {missing}"
    lacks = [] if shutil.which("c++") or shutil.which("clang++") else ["a C++ compiler"]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        lacks.append("Python's headers (Debian: python3-dev)")
    help_ = f"install {' and '.join(lacks)}, then reinstall" if lacks else "reinstall"
    return f"the compiled kernel is missing ({missing}): {help_} tangential to build it"


def wanted(options: StepOptions) -> bool:
    """Whether the kernel should step those weights of a group that it supports."""
    if kernel is None:
        return False
    # the kernel pads the end of a row with zeros, which would become 0 / 0
    if options.rule == "adam" and options.eps < TINY and options.betas[1] == 0:
        return False
    return options.fused is True or (options.fused is None and options.foreach is None)
