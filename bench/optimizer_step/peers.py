"""The optimizers whose steps are timed."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP, project
from tangential.backends import native

Build = Callable[[list[Parameter]], Optimizer]
Rule = Literal["adam", "sgd"]

ADAM: dict[str, Any] = {"lr": 1e-9, "weight_decay": 1e-2}  # so small that no weight changes
MOMENTUM = {**ADAM, "momentum": 0.9}
OURS = ("tangential AdamP fused", "tangential SGDP fused")
BASELINES: dict[Rule, str] = {"adam": "torch AdamW fused", "sgd": "torch SGD fused"}


class Peer(NamedTuple):
    """An optimizer of the benchmark; a slow one takes part in only some of the rounds."""

    rule: Rule
    slow: bool
    build: Build

    @property
    def baseline(self) -> str:
        """The name of torch's fused optimizer with the same rule."""
        return BASELINES[self.rule]


def _adamp_of(module: str) -> Build:
    return lambda params: import_module(module).AdamP(params, **ADAM)


def _projected(params: list[Parameter]) -> Optimizer:
    options = {**ADAM, "weight_decay": 0.0}
    return project(AdamW(params, fused=True, **options), weight_decay=ADAM["weight_decay"])


PEERS = {  # the first word of a name is the package
    "tangential AdamP fused": Peer("adam", False, lambda w: AdamP(w, fused=True, **ADAM)),
    "tangential AdamP foreach": Peer("adam", True, lambda w: AdamP(w, foreach=True, **ADAM)),
    "tangential project(AdamW)": Peer("adam", False, _projected),
    "adamp AdamP": Peer("adam", True, _adamp_of("adamp")),
    "timm AdamP": Peer("adam", True, _adamp_of("timm.optim")),
    "pytorch_optimizer AdamP": Peer("adam", True, _adamp_of("pytorch_optimizer")),
    "torch AdamW fused": Peer("adam", False, lambda w: AdamW(w, fused=True, **ADAM)),
    "torch AdamW foreach": Peer("adam", True, lambda w: AdamW(w, foreach=True, **ADAM)),
    "tangential SGDP fused": Peer("sgd", False, lambda w: SGDP(w, fused=True, **MOMENTUM)),
    "torch SGD fused": Peer("sgd", False, lambda w: SGD(w, fused=True, **MOMENTUM)),
}


def missing_peers() -> dict[str, str]:
    """Why each peer that cannot run here cannot."""
    reasons = {name: "not installed" for name in PEERS if not find_spec(name.split()[0])}
    if native.kernel is None:
        reasons |= dict.fromkeys(OURS, native.reason())
    return reasons


def installed_peers(*, fused: bool = False) -> dict[str, Peer]:
    """The peers that can run here, or those of them that are fused."""
    missing = missing_peers()
    return {
        name: peer
        for name, peer in PEERS.items()
        if name not in missing and (not fused or name.endswith(" fused"))
    }
