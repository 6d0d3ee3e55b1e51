"""16-bit weights: during a step, the optimizer moves float32 copies of them.

So the amended update never comes from a difference of rounded weights, and the optimizer's state of
these weights is in float32.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.backends import State, is_narrow, sharded


class _Replaced(NamedTuple):
    """A weight at its `place` in a group's `params`, and the copy that is there for a step."""

    params: list[Tensor]
    place: int
    weight: Tensor
    copy: Tensor


class StandIns:
    """The float32 copies of one step."""

    def __init__(self) -> None:
        self.replaced: list[_Replaced] = []

    def put_in(self, params: list[Tensor], states: dict[Tensor, State]) -> bool:
        """Replace the 16-bit weights of a group that a step may move; whether there are any."""
        before = len(self.replaced)
        for place, weight in enumerate(params):
            moves = weight.grad is not None or sharded.is_summed_elsewhere(weight)
            if not (moves and is_narrow(weight)):
                continue
            copy = _wide(weight.detach()).requires_grad_()
            if weight.grad is not None:
                copy.grad = _wide(weight.grad)
            params[place] = copy
            self.replaced.append(_Replaced(params, place, weight, copy))
            if weight in states:
                state = states.pop(weight)
                states[copy] = {name: _wide(value) for name, value in state.items()}
        return len(self.replaced) > before

    @property
    def weights(self) -> dict[Tensor, Tensor]:
        """The 16-bit weights by their copies."""
        return {replaced.copy: replaced.weight for replaced in self.replaced}

    def store(self) -> None:
        """Round the copies, and write them to the weights."""
        for _, _, weight, copy in self.replaced:
            sharded.local(weight).copy_(sharded.local(copy))

    def take_out(self, states: dict[Tensor, State]) -> None:
        """Give the groups their weights back, and the weights their states."""
        for params, place, weight, copy in self.replaced:
            params[place] = weight
            if copy in states:
                states[weight] = states.pop(copy)
        self.replaced = []


def restore_wide(param: Tensor, state: State, saved: dict[str, Any]) -> None:
    """Restore what is saved in more than 16 bits: torch has rounded it to the weight's dtype."""
    for name, value in saved.items():
        if is_narrow(param) and isinstance(value, Tensor) and value.is_floating_point():
            state[name] = value.to(param.device, copy=True)


def _wide(x: Any) -> Any:
    """A 16-bit tensor in float32, or complex64; anything else unchanged."""
    if not (isinstance(x, Tensor) and is_narrow(x)):
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))
