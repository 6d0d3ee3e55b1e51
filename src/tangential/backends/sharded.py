"""DTensors: this process's part of a weight, whether it is in memory, and where the rest is.

A step works on the local part. From the other processes it needs only sums: a few numbers per row
or weight, which travel together for all weights of a step.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

Groups = tuple[Any, ...]  # of processes; torch may be built without torch.distributed


class ShardGroups(NamedTuple):
    """Which processes have the other parts of a weight's units, and which its other units."""

    parts: Groups = ()
    units: Groups = ()


ALONE = ShardGroups()


def is_dtensor(x: Any) -> bool:
    """Whether x is a DTensor."""
    return hasattr(x, "placements")


def local(x: Any) -> Tensor:
    """This process's shard of a DTensor; any other tensor unchanged."""
    return x.to_local() if is_dtensor(x) else x


def freed(x: Tensor) -> str | None:
    """An error message if `untyped_storage().resize_` has freed the memory of x, else None."""
    if torch.compiler.is_compiling():  # a trace of `project` has no memory
        return None
    if has_own_dispatch(x) and has_own_dispatch(x := local(x)):
        return None
    size, offset = x.untyped_storage().nbytes(), x.storage_offset()
    if not x.numel() or (size == x.nbytes and offset == 0 and x.is_contiguous()):
        return None
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    if size >= (offset + last + 1) * x.dtype.itemsize:
        return None
    return (
        f"is not in memory: its storage has {size} bytes. "
        "Restore what was freed or offloaded before the step"
    )


def has_own_dispatch(x: Tensor) -> bool:
    """Whether x is of a subclass, such as DTensor, whose values may not be in its own memory."""
    dispatch = type(x).__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
    return dispatch is not Tensor.__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]


def gradient_of(param: Tensor) -> Tensor:
    """This process's part of the gradient, sharded like its weight."""
    grad: Any = param.grad
    if is_dtensor(param):
        places = param.placements  # pyright: ignore[reportAttributeAccessIssue]
        grad = grad.redistribute(placements=places)
    return local(grad)


def shards_of(param: Any) -> list[tuple[int, int]]:
    """Axis and mesh dimension of every Shard of a DTensor; an empty list for other tensors.

    Raises a ValueError if a placement is neither Shard nor Replicate.
    """
    if not is_dtensor(param):
        return []
    shards = []
    for mesh_dim, placement in enumerate(param.placements):
        axis = getattr(placement, "dim", None)  # of Shard and of _StridedShard
        if placement.is_partial() or (axis is None and not placement.is_replicate()):
            raise ValueError(
                f"a weight of shape {tuple(param.shape)} is placed as {param.placements}, "
                "expected Shard and Replicate"
            )
        if axis is not None:
            shards.append((axis % param.dim(), mesh_dim))
    return shards


def is_summed_elsewhere(param: Tensor) -> bool:
    """Whether other processes may need the sums of this process's shard."""
    return param.requires_grad and bool(shards_of(param))


def groups_of(param: Any) -> Groups:
    """Groups of the processes that have other shards of a weight, by mesh dimension."""
    return tuple(param.device_mesh.get_group(mesh_dim) for _, mesh_dim in shards_of(param))


def local_indices(param: Any, axis: int) -> Tensor | None:
    """Global indices of the part of an axis that this process has; None if it has the whole axis.

    Raises a ValueError if the shard is not as large as torch would have made it.
    """
    mesh_dims = [mesh_dim for cut, mesh_dim in shards_of(param) if cut == axis]
    if not mesh_dims:
        return None
    mesh, placements = param.device_mesh, param.placements
    splits = tuple(
        (mesh.size(i), mesh.get_local_rank(i), int(getattr(placements[i], "split_factor", 1)))
        for i in mesh_dims
    )
    indices = _indices(param.shape[axis], splits, param.device)
    if len(indices) != (length := local(param).shape[axis]):
        raise ValueError(
            f"a weight of shape {tuple(param.shape)} must be sharded as distribute_tensor does it "
            "because low_precision or row_groups needs the positions of its elements: expected "
            f"{len(indices)} along axis {axis}, got {length}"
        )
    return indices


@lru_cache(maxsize=4096)
def _indices(length: int, splits: tuple[tuple[int, int, int], ...], device: Any) -> Tensor:
    """The part of an axis that is left when every mesh dimension has split it.

    A split is the number of parts, this process's part, and the split factor of a strided shard
    (FSDP2 over tensor parallelism), else 1.
    """
    indices = torch.arange(length, device="cpu")
    for parts, number, factor in splits:
        chunks = [stride.chunk(parts) for stride in indices.chunk(factor)]  # may be fewer parts
        indices = torch.cat([x[number] if number < len(x) else x[0][:0] for x in chunks])
    return indices.to(device, non_blocking=True)


def added_up(x: Tensor, groups: Groups) -> Tensor:
    """The sum of x over the processes of all groups."""
    if not groups:
        return x
    from torch.distributed import _functional_collectives as collectives

    for group in groups:
        x = collectives.wait_tensor(collectives.all_reduce(x, "sum", group))
    return x


@dataclass
class Request:
    """Sums of this process that must be added up over all processes of `groups`.

    A later request will add up the result over the processes of `later`.
    """

    sums: Tensor
    groups: list[Any]
    later: Groups


Task = Generator[Request, Tensor, None]


def added(values: list[Tensor], groups: Groups, later: Groups = ()) -> Generator[Any, Any, Any]:
    """Request sums over the processes of `groups`, inside a `Task`."""
    if not groups:
        return values
    sizes = [value.numel() for value in values]
    sums = yield Request(torch.cat([value.reshape(-1) for value in values]), [*groups], later)
    return [part.view_as(value) for part, value in zip(sums.split(sizes), values, strict=True)]


def run_together(tasks: Iterable[Task]) -> None:
    """Run tasks to their ends; sums that are requested at the same time share one collective.

    On every process, the same tasks must request sums, in the same order.
    """
    requests = [(task, _next_request(task, None)) for task in tasks]
    while waiting := [(task, request) for task, request in requests if request is not None]:
        pending = [request for _, request in waiting]
        group = _next_group(pending)
        asking = [request for request in pending if group in request.groups]
        _add_up([x for x in asking if x.sums.device == asking[0].sums.device], group)
        requests = [(t, x if x.groups else _next_request(t, x.sums)) for t, x in waiting]


def _next_request(task: Task, sums: Tensor | None) -> Request | None:
    """Run a task until it requests sums; None if it has ended."""
    try:
        return next(task) if sums is None else task.send(sums)
    except StopIteration:
        return None


def _next_group(requests: list[Request]) -> Any:
    """A group that no request needs later, so one collective is enough; else the first."""
    groups = [group for request in requests for group in request.groups]
    later = [group for request in requests for group in request.later]
    return next((group for group in groups if group not in later), groups[0])


def _add_up(requests: list[Request], group: Any) -> None:
    flat = torch.cat([request.sums for request in requests])  # in the widest dtype among them
    if flat.numel():
        flat = added_up(flat, (group,))
    parts = flat.split([request.sums.numel() for request in requests])
    for request, part in zip(requests, parts, strict=True):
        request.sums = part.to(request.sums.dtype)
        request.groups.remove(group)
