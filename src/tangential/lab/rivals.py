"""The optimizers that are compared. A rival is a factory, and all share one search space."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP


class Rival(NamedTuple):
    """An optimizer in a comparison, its baseline (or None), and its colour in every figure."""

    build: Callable[[Iterable[Tensor], float, float], Optimizer]
    about: str
    baseline: str | None
    colour: str


# log-uniform: the same for every rival
SPACE = {"lr": (1e-3, 1.0), "weight_decay": (1e-5, 1e-1)}

# colours of Okabe and Ito, told apart by colour-blind readers too
RIVALS = {
    "sgd": Rival(
        lambda w, lr, decay: SGD(w, lr, 0.9, weight_decay=decay, nesterov=True),
        "torch SGD, momentum .9, Nesterov, coupled decay",
        None,
        "#56b4e9",
    ),
    "sgdp": Rival(
        lambda w, lr, decay: SGDP(w, lr, 0.9, weight_decay=decay, nesterov=True),
        "SGDP, momentum .9, Nesterov, decoupled decay, wd_ratio .1",
        "sgd",
        "#0072b2",
    ),
    "adamw": Rival(
        lambda w, lr, decay: AdamW(w, lr, weight_decay=decay),
        "torch AdamW, betas (.9, .999)",
        None,
        "#e69f00",
    ),
    "adamp": Rival(
        lambda w, lr, decay: AdamP(w, lr, weight_decay=decay),
        "AdamP, betas (.9, .999), wd_ratio .1",
        "adamw",
        "#d55e00",
    ),
}
