"""Weights that a step is timed on, and the gradients that hold the gate open or shut."""

import random
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

Shape = tuple[int, ...]


def _torchvision(model: str) -> list[Shape]:
    if not find_spec("torchvision"):
        raise ModuleNotFoundError(f"{model} needs torchvision: install it or choose other shapes")
    with torch.device("meta"):
        built = import_module("torchvision.models").get_model(model)
    return [tuple(p.shape) for p in built.parameters()]


def _gpt2() -> list[Shape]:
    """GPT-2 124M.

    >>> sum(torch.Size(shape).numel() for shape in _gpt2())
    124439808
    """
    d = 768
    norm, attention = [(d,), (d,)], [(d, 3 * d), (3 * d,), (d, d), (d,)]
    mlp = [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *12 * (norm + attention + norm + mlp), *norm]


def _tiny() -> list[Shape]:
    sizes = random.Random(0)
    return [(8, sizes.randint(8, 512)) for _ in range(1000)]


SHAPES: dict[str, Callable[[], list[Shape]]] = {
    "resnet18": lambda: _torchvision("resnet18"),
    "resnet50": lambda: _torchvision("resnet50"),
    "vit_b_16": lambda: _torchvision("vit_b_16"),
    "gpt2": _gpt2,
    "tiny": _tiny,  # 1,000 matrices of 64 to 4,096 elements
    "embedding": lambda: [(50257, 768)],
}
# the usual gradient of a matrix, and the one that it has by chance
GATES = {"open": ("open", "open"), "shut": ("shut", "shut"), "flicker": ("shut", "chance")}


def gradient(weight: Tensor, kind: str) -> Tensor:
    """A gradient orthogonal to every row ("open"), to none ("shut"), or to their whole ("chance").

    So the gate fires by row, not at all, or by weight.
    """
    result = torch.randn_like(weight)
    if weight.dim() < 2:
        return result
    rows, g = weight.flatten(1), result.flatten(1)
    ww = rows.square().sum(1, keepdim=True)
    g -= (rows * g).sum(1, keepdim=True) / ww * rows
    if kind != "open":
        radial = g.norm(dim=1, keepdim=True) / (2 * ww.sqrt())
        if kind == "chance":  # radial parts that cancel
            radial[::2] *= -1
            radial -= (radial * ww).sum() / ww.sum()
        g += radial * rows
    return result
