"""Weights to take a step on, and gradients that open or shut the gate."""

import random
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

Shape = tuple[int, ...]
Kind = Literal["open", "shut", "chance"]

# how often |cos| < .1 / sqrt(n) for two unrelated vectors of n elements, where n is large
CHANCE = 0.08


def _torchvision(model: str) -> list[Shape]:
    if not find_spec("torchvision"):
        raise ModuleNotFoundError(f"{model} needs torchvision: install it or choose other shapes")
    with torch.device("meta"):
        built = import_module("torchvision.models").get_model(model)
    return [tuple(p.shape) for p in built.parameters()]


def _gpt2() -> list[Shape]:
    """GPT-2 124M."""
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
    "mobilenet_v2": lambda: _torchvision("mobilenet_v2"),  # has rows of 9 elements
    "gpt2": _gpt2,
    "tiny": _tiny,  # 1,000 matrices of 64 to 4,096 elements
    "embedding": lambda: [(50257, 768)],
}


class Gate(NamedTuple):
    """The gradient that a matrix usually has, and the one that it sometimes has."""

    usual: Kind
    sometimes: Kind


GATES = {
    "open": Gate("open", "open"),
    "shut": Gate("shut", "shut"),
    "flicker": Gate("shut", "chance"),
}


def weights(sizes: list[Shape]) -> list[Parameter]:
    """Random weights, the same at every call."""
    torch.manual_seed(0)
    return [Parameter(0.02 * torch.randn(size)) for size in sizes]


class Gradients:
    """The gradients of some weights; `choose` a gate first."""

    def __init__(self, params: list[Parameter]) -> None:
        self.params, self.chance = params, random.Random(0)
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def choose(self, gate: Gate) -> None:
        """Make the two gradients of every weight."""
        self.pairs = []  # the old ones and the new ones together might not fit into memory
        for p in self.params:
            p.grad = None
        self.pairs = [_pair(p.detach(), gate) for p in self.params]

    def draw(self) -> None:
        """Give every weight its usual gradient or, by chance, the other."""
        for p, (usual, sometimes) in zip(self.params, self.pairs, strict=True):
            p.grad = sometimes if self.chance.random() < CHANCE else usual


def _pair(weight: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    usual = gradient(weight, gate.usual)
    if gate.sometimes == gate.usual or weight.dim() < 2:
        return usual, usual
    return usual, gradient(weight, gate.sometimes)


def gradient(weight: Tensor, kind: Kind) -> Tensor:
    """A gradient for which the gate projects by row ("open"), not at all ("shut"), or by weight.

    It is orthogonal to every row, to no row, or ("chance") to the whole weight but to no row.
    """
    result = torch.randn_like(weight)
    if weight.dim() < 2:
        return result
    rows, g = weight.flatten(1), result.flatten(1)
    ww = rows.square().sum(1, keepdim=True)
    g -= (rows * g).sum(1, keepdim=True) / ww * rows
    if kind != "open":
        radial = g.norm(dim=1, keepdim=True) / (2 * ww.sqrt())
        if kind == "chance":  # radial parts of the rows cancel in the whole
            radial[::2] *= -1
            radial -= (radial * ww).sum() / ww.sum()
        g += radial * rows
    return result
