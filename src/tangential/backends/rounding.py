"""How weights narrower than float32 are rounded: to nearest, at random, or with compensation.

"nearest" does not move if a step is less than half a unit in the last place. "stochastic" rounds up
or down in proportion, by a hash of the weight's index, its step and the element's position in the
whole weight: replicas and shards agree, and a resumed run equals the uninterrupted one. "kahan"
keeps the lost part in `compensation`.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tangential.backends.batch import Batch, LowPrecision, State
from tangential.backends.rows import as_real, widen_all
from tangential.backends.sharded import local_indices

OFFSET = 0x9E3779B9  # of positions, so that the first one is not 0

# bits of a float32 that a narrow weight cannot keep
LOST = {torch.bfloat16: 16, torch.float16: 13}


def is_narrow(weight: Tensor) -> bool:
    """Whether a weight is narrower than the arithmetic of its step."""
    return as_real(weight).dtype in LOST


def counts(states: list[State]) -> list[float]:
    """The steps that weights have taken."""
    return [state["step"].item() for state in states]


def all_loaded(
    shards: list[Tensor], states: list[State], low_precision: LowPrecision | None
) -> list[Tensor]:
    """The weights in at least float32: views if they are wide enough, else copies.

    "kahan" adds the lost part; a weight without a state has none yet.
    """
    ws = widen_all(shards)
    if low_precision == "kahan" and is_narrow(shards[0]):
        lost = [state.get("compensation") for state in states]
        pairs = [(w, as_real(x)) for w, x in zip(ws, lost, strict=True) if x is not None]
        if pairs:
            torch._foreach_add_([w for w, _ in pairs], [x for _, x in pairs])
    return ws


def store_all(batch: Batch) -> None:
    """Round the `ws` of active weights, and write them to the weights."""
    ws, low_precision = batch.of_active(batch.ws), batch.options.low_precision
    shards = [as_real(shard) for shard in batch.of_active(batch.shards)]
    if low_precision == "stochastic":
        flat = torch.cat([w.reshape(-1) for w in ws])
        ws = _parts(_randomly_rounded(flat, _noise(batch, ws), LOST[shards[0].dtype]), ws)
    torch._foreach_copy_(shards, ws)
    if low_precision == "kahan":
        rests = torch._foreach_sub(ws, shards)
        flat = torch.cat([rest.reshape(-1) for rest in rests])
        rests = _parts(flat.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), ws)
        torch._foreach_copy_([as_real(state["compensation"]) for state in batch.states], rests)


def _parts(flat: Tensor, likes: list[Tensor]) -> list[Tensor]:
    parts = flat.split([like.numel() for like in likes])
    return [part.view(like.shape) for part, like in zip(parts, likes, strict=True)]


def _randomly_rounded(w: Tensor, noise: Tensor, lost: int) -> Tensor:
    """Add random bits below the bits of `w` that are kept, then drop all bits below them."""
    mask = 2**lost - 1
    rounded = ((w.view(torch.int32) + (noise & mask).int()) & ~mask).view(torch.float32)
    return torch.where(w.isfinite(), rounded, w)


def _noise(batch: Batch, ws: list[Tensor]) -> Tensor:
    """32 random bits for every element of all active weights."""
    weights = batch.of_active(batch.weights)
    seeds, device = _seeds(batch), ws[0].device
    first = torch.arange(max(w.numel() for w in ws), device=device)
    positions_of = [_positions(x.param, w, first) for x, w in zip(weights, ws, strict=True)]
    if len(ws) == 1:
        return hashed(positions_of[0] ^ seeds[0])
    if not isinstance(seeds, Tensor):
        seeds = torch.tensor(seeds, device="cpu").to(device, non_blocking=True)
    seed = torch.cat([seed.expand(w.numel()) for seed, w in zip(seeds.unbind(), ws, strict=True)])
    return hashed(torch.cat(positions_of) ^ seed)


def _seeds(batch: Batch) -> list[int] | Tensor:
    """A hash of every active weight's position and step: numbers, or a tensor that is not read."""
    positions = tuple(weight.position for weight in batch.of_active(batch.weights))
    if batch.options.capturable:
        steps = torch.stack([state["step"] for state in batch.states]).to(torch.int64)
        return hashed(steps + _hashes(positions, steps.device))
    pairs = zip(counts(batch.states), positions, strict=True)
    return [hashed(int(step) + hashed(position + OFFSET)) for step, position in pairs]


@lru_cache(maxsize=1024)  # no copy while a CUDA graph is captured
def _hashes(positions: tuple[int, ...], device: torch.device) -> Tensor:
    hashes = torch.tensor([hashed(position + OFFSET) for position in positions], device="cpu")
    return hashes.to(device, non_blocking=True)


def _positions(param: Tensor, w: Tensor, first: Tensor) -> Tensor:
    """The position in the whole weight of every local element."""
    axes = [local_indices(param, axis) for axis in range(param.dim())]
    if all(indices is None for indices in axes):
        return first[: w.numel()]
    shape = (*param.shape, 2) if param.is_complex() else param.shape
    position = first.new_zeros(())
    for axis, length in enumerate(shape):
        indices = axes[axis] if axis < len(axes) else None
        if indices is None:
            indices = torch.arange(length, device=w.device)
        position = position.unsqueeze(-1) * length + indices
    return position.reshape(-1)


def hashed(x: Any) -> Any:
    """C. Wellons' "lowbias32" of 64-bit integers or of an integer; the kernel uses it, too."""
    x = x & 0xFFFFFFFF  # a copy, which the rest changes in place
    x ^= x >> 16
    x *= 0x7FEB352D
    x &= 0xFFFFFFFF
    x ^= x >> 15
    x *= 0x846CA68B
    x &= 0xFFFFFFFF
    x ^= x >> 16
    return x
