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


class Split(NamedTuple):
    """How a mesh dimension cuts an axis: into `shards` parts; this process has part `number`.

    `strides` is the split factor of a strided shard (FSDP2 over tensor parallelism), else 1.
    """

    shards: int
    number: int
    strides: int


def is_dtensor(x: Any) -> bool:
    """Whether x is a DTensor."""
    return hasattr(x, "placements")


def local(x: Any) -> Tensor:
    """This process's shard of a DTensor; any other tensor unchanged."""
    return x.to_local() if is_dtensor(x) else x


def freed(x: Tensor) -> str | None:
    """An error message if `untyped_storage().resize_` has freed the memory of x, else None."""
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
    own = type(x).__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
    return own is not Tensor.__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]


def gradient_of(param: Tensor) -> Tensor:
    """This process's part of the gradient, sharded like its weight."""
    grad: Any = param.grad
    if is_dtensor(param):
        places = param.placements  # pyright: ignore[reportAttributeAccessIssue]
        grad = grad.redistribute(placements=places)
    return local(grad)


def shards_of(param: Any) -> list[tuple[int, int]]:
    """Axis and mesh dimension of every Shard of a DTensor; an empty list for other tensors.

    Raises:
        ValueError: a placement is neither Shard nor Replicate.
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


def groups_by_axis(param: Any, row_axis: int | None) -> ShardGroups:
    """The groups of processes among which a weight is sharded, by the axis that they cut.

    Args:
        param: A weight of any kind.
        row_axis: The axis of its units' rows, >= 0; None if each process needs all units.

    Raises:
        ValueError: a placement is neither Shard nor Replicate.
    """
    if not (shards := shards_of(param)):
        return ALONE
    groups = [(axis, param.device_mesh.get_group(mesh_dim)) for axis, mesh_dim in shards]
    return ShardGroups(
        tuple(group for axis, group in groups if axis != row_axis),
        tuple(group for axis, group in groups if axis == row_axis),
    )


def local_indices(param: Any, axis: int) -> Tensor | None:
    """Global indices of the part of an axis that this process has; None if it has the whole axis.

    Raises:
        ValueError: the shard is not as large as torch would have made it.
    """
    mesh_dims = [mesh_dim for cut, mesh_dim in shards_of(param) if cut == axis]
    if not mesh_dims:
        return None
    mesh, placements = param.device_mesh, param.placements
    splits = tuple(
        Split(mesh.size(i), mesh.get_local_rank(i), int(getattr(placements[i], "split_factor", 1)))
        for i in mesh_dims
    )
    indices = _indices(param.shape[axis], splits, param.device)
    if len(indices) != (here := local(param).shape[axis]):
        raise ValueError(
            f"a weight of shape {tuple(param.shape)} must be sharded as distribute_tensor does it "
            "because low_precision or row_groups needs the positions of its elements: expected "
            f"{len(indices)} along axis {axis}, got {here}"
        )
    return indices


@lru_cache(maxsize=4096)
def _indices(length: int, splits: tuple[Split, ...], device: torch.device) -> Tensor:
    indices = torch.arange(length, device="cpu")
    for split in splits:
        strides = indices.chunk(split.strides)
        indices = torch.cat([_chunk(stride, split) for stride in strides])
    return indices.to(device, non_blocking=True)


def _chunk(indices: Tensor, split: Split) -> Tensor:
    chunks = indices.chunk(split.shards)  # may be fewer
    return chunks[split.number] if split.number < len(chunks) else indices[:0]


def added_up(x: Tensor, groups: Groups) -> Tensor:
    """The sum of x over the processes of all groups."""
    if not groups:
        return x
    from torch.distributed import _functional_collectives as collectives

    for group in groups:
        x = collectives.wait_tensor(collectives.all_reduce(x, "sum", group))
    return x


class Request(NamedTuple):
    """Sums of this process that must be added up over all processes of `groups`.

    A later request will add up the result over the processes of `later`.
    """

    sums: Tensor
    groups: Groups
    later: Groups = ()


Task = Generator[Request, Tensor, None]


def added(values: list[Tensor], groups: Groups, later: Groups = ()) -> Generator[Any, Any, Any]:
    """Request sums over the processes of `groups`, inside a `Task`."""
    if not groups:
        return values
    sizes = [value.numel() for value in values]
    sums = yield Request(torch.cat([value.reshape(-1) for value in values]), groups, later)
    return [part.view_as(value) for part, value in zip(sums.split(sizes), values, strict=True)]


@dataclass
class _Waiting:
    """A task that waits for its sums, and the groups over which they must still be added."""

    task: Task
    sums: Tensor
    groups: list[Any]
    later: Groups


def run_together(tasks: Iterable[Task]) -> None:
    """Run tasks to their ends; sums that are requested at the same time share one collective.

    On every process, the same tasks must request sums, in the same order.
    """
    started = [_resumed(task, None) for task in tasks]
    waiting = [task for task in started if task is not None]
    while waiting:
        group = _next_group(waiting)
        asking = [task for task in waiting if group in task.groups]
        _add_up([task for task in asking if task.sums.device == asking[0].sums.device], group)
        resumed = [x if x.groups else _resumed(x.task, x.sums) for x in waiting]
        waiting = [task for task in resumed if task is not None]


def _resumed(task: Task, sums: Tensor | None) -> _Waiting | None:
    """Run a task until it requests sums; None if it has ended."""
    try:
        request = next(task) if sums is None else task.send(sums)
    except StopIteration:
        return None
    return _Waiting(task, request.sums, list(request.groups), request.later)


def _next_group(waiting: list[_Waiting]) -> Any:
    """A group that no waiting task needs later, so one collective is enough; else the first."""
    groups = [group for task in waiting for group in task.groups]
    later = [group for task in waiting for group in task.later]
    return next((group for group in groups if group not in later), groups[0])


def _add_up(waiting: list[_Waiting], group: Any) -> None:
    flat = torch.cat([task.sums for task in waiting])  # in the widest dtype among them
    if flat.numel():
        flat = added_up(flat, (group,))
    parts = flat.split([task.sums.numel() for task in waiting])
    for task, part in zip(waiting, parts, strict=True):
        task.sums = part.to(task.sums.dtype)
        task.groups.remove(group)
