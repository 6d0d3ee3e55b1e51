"""How weights narrower than float32 are kept: rounded, rounded by chance, or with what was lost.

"nearest" stands still where a step is less than half a unit in the last place. "stochastic" rounds
up or down in proportion, by a hash of the weight's place, its step and the element: replicas agree,
and a resumed run is the uninterrupted one. "kahan" keeps the lost part in `compensation`.
"""

from typing import Any

import torch
from torch import Tensor

from tangential.backends.rows import real, wide

State = dict[str, Tensor]
Group = dict[str, Any]

# bits of a float32 for which a narrow weight has no room
LOST = {torch.bfloat16: 16, torch.float16: 13}


def narrow(weight: Tensor) -> bool:
    """Whether arithmetic is wider than the weight."""
    return real(weight).dtype in LOST


def loaded(weight: Tensor, state: State, group: Group) -> Tensor:
    """The weight in float32 at least: itself where it is that wide, else a new array."""
    w = wide(weight)
    if group["low_precision"] == "kahan" and narrow(weight):
        w += wide(state["compensation"])
    return w


def store(weight: Tensor, w: Tensor, state: State, place: int, group: Group) -> None:
    """Round `w` [as the real view of the weight] into the weight."""
    kept = real(weight)
    if group["low_precision"] == "stochastic":
        w = _shaken(w, state["step"], place, LOST[kept.dtype])
    kept.copy_(w)
    if group["low_precision"] == "kahan":
        rest = w - kept.float()
        real(state["compensation"]).copy_(torch.where(rest.isfinite(), rest, 0.0))


def _shaken(w: Tensor, step: Tensor, place: int, lost: int) -> Tensor:
    """`w` cut off at the bits that are kept, after random ones were added below them."""
    mask = 2**lost - 1
    seed = _hashed(step.to(w.device, torch.int64) + _hashed(torch.tensor(place) + 0x9E3779B9))
    noise = _hashed(torch.arange(w.numel(), device=w.device) ^ seed).view(w.shape) & mask
    shaken = ((w.contiguous().view(torch.int32).long() + noise) & ~mask).int().view(torch.float32)
    return torch.where(w.isfinite(), shaken, w)


def _hashed(x: Tensor) -> Tensor:
    """C. Wellons' "lowbias32", in 64-bit integers; the kernel has the same."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)
