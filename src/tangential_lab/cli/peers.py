"""The optimizers that a step is timed against."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP
from tangential.backends import native

Build = Callable[[list[Parameter]], Optimizer]

ADAM: dict[str, Any] = {"lr": 1e-9, "weight_decay": 1e-2}  # no step moves a weight
MOMENTUM = {**ADAM, "momentum": 0.9}
OURS = ("tangential AdamP fused", "tangential SGDP fused")
BASE = {"adam": "torch AdamW fused", "sgd": "torch SGD fused"}


class Peer(NamedTuple):
    """An optimizer of the bench; a slow one takes part in every third round."""

    rule: str
    slow: bool
    build: Build


def _published(module: str) -> Build:
    return lambda w: import_module(module).AdamP(w, **ADAM)


PEERS = {  # a name begins with the package
    "tangential AdamP fused": Peer("adam", False, lambda w: AdamP(w, fused=True, **ADAM)),
    "tangential AdamP foreach": Peer("adam", True, lambda w: AdamP(w, foreach=True, **ADAM)),
    "adamp AdamP": Peer("adam", True, _published("adamp")),
    "timm AdamP": Peer("adam", True, _published("timm.optim")),
    "pytorch_optimizer AdamP": Peer("adam", True, _published("pytorch_optimizer")),
    "torch AdamW fused": Peer("adam", False, lambda w: AdamW(w, fused=True, **ADAM)),
    "torch AdamW foreach": Peer("adam", True, lambda w: AdamW(w, foreach=True, **ADAM)),
    "tangential SGDP fused": Peer("sgd", False, lambda w: SGDP(w, fused=True, **MOMENTUM)),
    "torch SGD fused": Peer("sgd", False, lambda w: SGD(w, fused=True, **MOMENTUM)),
}


def absent() -> dict[str, str]:
    """The peers that cannot run here, and why."""
    reasons = {name: "not installed" for name in PEERS if not find_spec(name.split()[0])}
    if native.kernel is None:
        reasons |= dict.fromkeys(OURS, native.reason())
    return reasons


def present() -> dict[str, Peer]:
    """The peers that can run here."""
    without = absent()
    return {name: peer for name, peer in PEERS.items() if name not in without}
