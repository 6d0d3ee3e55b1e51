"""The step of a group on a GPU: which weights Triton takes, and where their tensors are."""

from typing import Any

import torch
from torch import Tensor

from tangential.backends.batch import Scaling, State, StepOptions, WeightState
from tangential.backends.native import others
from tangential.backends.sharded import shards_of
from tangential.backends.sums import Watch
from tangential.backends.triton.available import MOMENTS, takes, wanted
from tangential.backends.triton.launches import Launches


class TritonPlan:
    """The weights of a group that Triton takes, remembered from one step to the next.

    It holds addresses, but no tensor of a weight's state.

    Args:
        weights: The weights of the group that have a gradient, with complete states.
        options: The group's options.
        params: All weights of the group.
        first: The index of the group's first weight in the optimizer.
    """

    def __init__(
        self, weights: list[WeightState], options: StepOptions, params: list[Tensor], first: int
    ) -> None:
        self.geometry, self.first = _geometry(options), first
        self.active, self.is_captured = _active(params), False
        self.shards = [(i, p) for i, p in enumerate(params, first) if shards_of(p)]
        self.other_weights: list[WeightState] = []
        alike: dict[Any, list[WeightState]] = {}
        for weight in weights:
            if takes(weight, options):
                moment = weight.state[MOMENTS[options.rule][0]].dtype
                key = weight.param.device, weight.param.dtype, moment
                if "step" in weight.state:
                    weight.state["step"] = weight.state["step"].to(weight.param.device)
                alike.setdefault(key, []).append(weight)
            else:
                self.other_weights.append(weight._replace(state={}))
        self.batches = [Launches(some, *key) for key, some in alike.items()]

    def locate(
        self, options: StepOptions, params: list[Tensor], states: dict[Tensor, State], first: int
    ) -> bool:
        """Find weights, gradients and states; False if a layout has changed."""
        same = (self.first, self.geometry, self.active) == (
            first,
            _geometry(options),
            _active(params),
        )
        self.is_captured = any(is_capturing(batch.device) for batch in self.batches)
        return same and all(
            batch.locate(options, states, is_captured=self.is_captured) for batch in self.batches
        )

    def others(self, states: dict[Tensor, State]) -> list[WeightState]:
        """The weights that Triton does not take, and shards without a gradient, in order."""
        return others(self.other_weights, self.shards, self.geometry[0], states)

    @staticmethod
    def is_wanted(options: StepOptions) -> bool:
        """Whether a step with these options should use it."""
        return wanted(options)

    def release(self) -> None:
        """Nothing to drop: it has addresses only."""

    def step(self, options: StepOptions, scaling: Scaling, watch: Watch | None) -> None:
        """Advance what `locate` has found by one step, in place."""
        for batch in self.batches:
            batch.step(options, scaling, watch)

    @property
    def bytes(self) -> int:
        """Memory that is held from step to step."""
        return sum(x.nbytes for x in self.tables)

    @property
    def tables(self) -> list[Tensor]:
        """Tables on the device; a graph that has captured a step reads them at every replay."""
        return [x for batch in self.batches for x in batch.tables]


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def check_warm_up(params: list[Tensor], options: StepOptions) -> None:
    """Raise a RuntimeError if a plan would have to be made while a CUDA graph is being captured."""
    if wanted(options) and any(is_capturing(p.device) for p in params if p.grad is not None):
        raise RuntimeError(
            "with fused=True, a step can be captured in a CUDA graph only after a step of the same "
            "weights, states and options outside of the graph: take that step first, or use "
            "fused=False"
        )


def _active(params: list[Tensor]) -> list[int]:
    """Which weights have a gradient."""
    return [i for i, param in enumerate(params) if param.grad is not None]


def _geometry(options: StepOptions) -> tuple[Any, ...]:
    """The options that decide which weights Triton takes, and their layouts."""
    return options.units, options.low_precision, options.wide_moments
