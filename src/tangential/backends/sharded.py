"""DTensors: this process's part of a weight, and who has the rest.

A step works on the part; of the others it needs sums alone, a handful of numbers a row or weight.
"""

from typing import Any, NamedTuple

from torch import Tensor

Groups = tuple[Any, ...]  # of processes; torch may be built without torch.distributed


class Holders(NamedTuple):
    """Who has the other parts of a weight's units, and who has its other units."""

    parts: Groups = ()
    units: Groups = ()


ALONE = Holders()


def is_dtensor(x: Any) -> bool:
    """Whether x is a DTensor."""
    return hasattr(x, "placements")


def local(x: Any) -> Tensor:
    """This process's shard of a DTensor; any other tensor as it is."""
    return x.to_local() if is_dtensor(x) else x


def gradient_of(param: Tensor) -> Tensor:
    """This process's part of the gradient, sharded as its weight is."""
    grad: Any = param.grad
    if is_dtensor(param):
        places = param.placements  # pyright: ignore[reportAttributeAccessIssue]
        grad = grad.redistribute(placements=places)
    return local(grad)


def holders_of(param: Any, row_axis: int | None) -> Holders:
    """Who holds what of a DTensor.

    Args:
        param: Of any kind.
        row_axis: Along which its units lie, >= 0; None where it is one unit.

    Raises:
        ValueError: it is split otherwise than into even or uneven shards of an axis.
    """
    if not is_dtensor(param):
        return ALONE
    placements, mesh = param.placements, param.device_mesh
    for placement in placements:
        if not (placement.is_replicate() or type(placement).__name__ == "Shard"):
            raise ValueError(
                f"a weight of shape {tuple(param.shape)} is placed as {placements}, "
                "allowed are Shard and Replicate"
            )
    shards = [(p.dim, mesh.get_group(i)) for i, p in enumerate(placements) if p.is_shard()]
    return Holders(
        tuple(group for dim, group in shards if dim != row_axis),
        tuple(group for dim, group in shards if dim == row_axis),
    )


def added_up(x: Tensor, groups: Groups) -> Tensor:
    """The sum of x over the processes of all groups."""
    if not groups:
        return x
    from torch.distributed import _functional_collectives as collectives

    for group in groups:
        x = collectives.wait_tensor(collectives.all_reduce(x, "sum", group))
    return x


def like(param: Any, part: Tensor) -> Tensor:
    """A DTensor spread as `param` is, of which `part` is this process's shard."""
    if not is_dtensor(param):
        return part
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part,
        param.device_mesh,
        param.placements,
        run_check=False,
        shape=param.shape,
        stride=param.stride(),
    )
