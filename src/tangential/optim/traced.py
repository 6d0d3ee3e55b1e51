"""A step under torch.compile: one operator in the graph, which takes the step as always.

The graph has the weights and their gradients; options and states are read when it runs. So a
scheduler causes no recompilation, and no cache of graphs can keep the first value of a number.
"""

from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from tangential.backends import local, sharded
from tangential.optim.options import ALLOWED, Group
from tangential.optim.stepper import Stepper

_optimizers: WeakValueDictionary[str, Any] = WeakValueDictionary()
_counter = count()


class Traced:
    """What a trace reads of an optimizer.

    Attributes:
        name: Names the optimizer in a graph. Unlike a number, a string is never a symbol.
        groups: Its `param_groups`: Dynamo would guard all numbers in the attribute itself.
    """

    def __init__(self, optimizer: Any) -> None:
        self.name = f"{type(optimizer).__name__} {next(_counter)}"
        self.groups: list[Group] = optimizer.param_groups
        _optimizers[self.name] = optimizer

    def step(self) -> None:
        """Put a step into the graph that is being traced."""
        is_changed, *places = _seen_by_trace(self.name)
        if is_changed:  # the changes happen after the graph, but they are meant for this step
            torch._dynamo.graph_break()
        params = [param for group in self.groups for param in group["params"]]
        indices = [
            i
            for i, param in enumerate(params)
            if param.grad is not None or sharded.is_summed_elsewhere(param)
        ]
        # without no_grad: an error in a graph would leave gradients disabled
        weights = [local(params[i]).detach() for i in indices]
        grads = [_gradient(params[i]) for i in indices]
        numbers = [_option(self.groups, place) for place in places]
        torch.ops.tangential.step(weights, grads, numbers, indices, places, self.name)


def _gradient(param: Tensor) -> Tensor | None:
    return None if param.grad is None else sharded.gradient_of(param).detach()


def _option(groups: list[Group], place: str) -> Tensor:
    number, name = place.split()
    return groups[int(number)][name]


def _seen_by_trace(name: str) -> tuple[Any, ...]:
    """Whether the traced function has changed options or states; where options are tensors.

    A graph may change a tensor in place, so it must be an argument of the operator.
    """
    optimizer = _optimizers[name]
    groups = optimizer._traced.groups = optimizer.param_groups
    places = [
        f"{i} {key}"
        for i, group in enumerate(groups)
        for key in ALLOWED
        if isinstance(group.get(key), Tensor)
    ]
    return _is_changed(optimizer), *places


# what torch.compiler.assume_constant_result does; that would import Dynamo with Tangential
_seen_by_trace._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _is_changed(optimizer: Any) -> bool:
    from torch._dynamo.symbolic_convert import InstructionTranslator

    effects = InstructionTranslator.current_tx().output.side_effects
    groups, states = optimizer.param_groups, optimizer.state
    lists = [x for group in groups for x in group.values() if isinstance(x, list)]
    seen = [groups, *groups, *lists, states, *states.values()]
    traced = [effects.id_to_variable.get(id(x)) for x in seen]
    return any(x is not None and effects.is_modified(x) for x in traced)


SCHEMA = (
    "(Tensor(a!)[] weights, Tensor?[] grads, Tensor[] numbers, int[] indices, str[] places, "
    "str optimizer) -> ()"
)
# A CUDA graph that Inductor captures would give the memory of states to other tensors.
UNSAFE = getattr(torch.Tag, "cudagraph_unsafe", None)
TAGS: dict[str, Any] = {"tags": [UNSAFE]} if UNSAFE else {}  # torch 2.6 has neither


@torch.library.custom_op("tangential::step", mutates_args=["weights"], schema=SCHEMA, **TAGS)
@torch.no_grad()
def _step(
    weights: list[Tensor],
    grads: list[Tensor | None],
    numbers: list[Tensor],
    indices: list[int],
    places: list[str],
    optimizer: str,
) -> None:
    """Take a step of an optimizer.

    Args:
        weights: Local parts of its weights, or what the graph has instead of them.
        grads: Their gradients.
        numbers: Its options that are tensors.
        indices: Those of `weights` among all weights of the optimizer.
        places: Those of `numbers`: the index of a group and the name of an option.
        optimizer: Its name.
    """
    original = _optimizers[optimizer]
    groups, traced = original.param_groups, original._traced
    params = [param for group in groups for param in group["params"]]
    given = dict(zip(indices, grads, strict=True))
    if traced.groups is groups and not (
        all(_is_same(local(params[i]), x) for i, x in zip(indices, weights, strict=True))
        and all(_is_same(local(p.grad), given.get(i)) for i, p in enumerate(params))
        and all(_is_same(_option(groups, at), x) for at, x in zip(places, numbers, strict=True))
    ):
        moved = dict(zip(indices, zip(weights, grads, strict=True), strict=True))
        original = _stand_in(original, moved, dict(zip(places, numbers, strict=True)))
    traced.groups = groups  # the next call is traced again if it is another list
    original._take_step()


@_step.register_fake
def _(weights: list[Tensor], grads: list[Tensor | None], *_: Any) -> None:
    """Say that shapes are equal: Dynamo makes symbols of the sizes of FSDP2's gradients."""
    for weight, grad in zip(weights, grads, strict=True):
        torch._check(grad is None or grad.shape == weight.shape)


def _is_same(x: Tensor | None, given: Tensor | None) -> bool:
    if x is None or given is None:
        return x is given
    return x is given or (x.data_ptr() == given.data_ptr() and x.shape == given.shape)


def _stand_in(
    optimizer: Any, moved: dict[int, tuple[Tensor, Tensor | None]], numbers: dict[str, Tensor]
) -> Any:
    """A copy of an optimizer with the same states, but the weights that a graph has.

    These may be copies, and a gradient that the graph has computed is not yet that of its weight.
    """
    result = object.__new__(type(optimizer))
    vars(result).update(vars(optimizer), param_groups=[], state={}, _stepper=Stepper())
    every = count()
    for group in optimizer.param_groups:
        params = []
        for param in group["params"]:
            weight, grad = moved.get(next(every), (param, None))
            twin = _like(param, weight)
            twin.grad = None if grad is None else _like(param, grad)
            if grad is not None:
                result.state[twin] = optimizer.state[param]
            params.append(twin)
        result.param_groups.append({**group, "params": params})
    for place, number in numbers.items():
        index, name = place.split()
        result.param_groups[int(index)][name] = number
    return result


def _like(param: Any, x: Tensor) -> Tensor:
    """A leaf with the values of x, and a part of a DTensor if `param` is one."""
    x = local(x.detach())
    if sharded.is_dtensor(param):
        from torch.distributed.tensor import DTensor

        mesh, places = param.device_mesh, param.placements
        x = DTensor.from_local(x, mesh, places, shape=param.shape, stride=param.stride())
    return x.requires_grad_(param.requires_grad)
