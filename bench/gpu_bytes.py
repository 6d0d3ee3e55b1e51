"""Bytes per weight that a step on a GPU reads and writes, counted without one.

    python bench/gpu_bytes.py

Triton's interpreter runs the kernels on the CPU, and every load and store counts, those of the
kernels' own tables too. The gate projects by row, as guessed. torch's AdamW moves 28 bytes per
float32 weight, and SGD with momentum 20. Rows of more than 2,048 elements are read twice.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from triton.runtime.interpreter import InterpreterBuilder

from tangential import SGDP, AdamP

OPTIONS: dict[type[AdamP | SGDP], dict[str, Any]] = {
    AdamP: {"weight_decay": 0.1},
    SGDP: {"momentum": 0.9, "weight_decay": 0.1},
}


def bytes_per_weight(cls: type[AdamP | SGDP], rows: int, row_size: int) -> float:
    """Bytes that the kernels of the second step move, divided by the number of weights."""
    weight = torch.nn.Parameter(torch.randn(rows, row_size))
    w, g = weight.detach(), torch.randn(rows, row_size)
    weight.grad = g - (g * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) * w
    optimizer = cls([weight], lr=1e-9, fused=True, **OPTIONS[cls])
    optimizer.step()
    moved: list[int] = []
    with (
        patch.object(InterpreterBuilder, "create_masked_load", _counted("load", 0, moved)),
        patch.object(InterpreterBuilder, "create_masked_store", _counted("store", 1, moved)),
    ):
        optimizer.step()
    return sum(moved) / weight.numel()


def _counted(name: str, mask: int, moved: list[int]) -> Callable[..., Any]:
    original = getattr(InterpreterBuilder, f"create_masked_{name}")

    def counted(builder, pointers, *arguments, **options):
        bits = pointers.get_element_ty().primitive_bitwidth
        moved.append(int(arguments[mask].data.sum()) * bits // 8)
        return original(builder, pointers, *arguments, **options)

    return counted


def main() -> None:
    """Print a line per optimizer and row size."""
    for cls in OPTIONS:
        for row_size in (64, 576, 2048, 4608):
            found = bytes_per_weight(cls, 24, row_size)
            print(f"{cls.__name__:5} float32, rows of {row_size:4}: {found:5.1f} bytes per weight")


if __name__ == "__main__":
    main()
