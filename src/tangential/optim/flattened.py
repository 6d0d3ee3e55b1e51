"""Detects weights that a trainer has flattened: they have no rows, so they cannot be projected.

FSDP1 marks its flat parameters, DeepSpeed ZeRO 1 and 2 do not.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

Group = dict[str, Any]

LARGE = 2**20  # elements: vectors of ordinary models are smaller

USE = "use FSDP2 (fully_shard), or FSDP1 with use_orig_params=True and ShardingStrategy.NO_SHARD"

_warned = False


def check_group(group: Group) -> None:
    """Raise a ValueError if `projection` is "row", but the group has only vectors and numbers."""
    params = group["params"]
    some = any(is_lazy(param) or param.numel() for param in params)
    if group["projection"] == "row" and some and not _has_rows(params):
        shapes = sorted({tuple(param.shape) for param in params})
        shown = ", ".join(map(str, shapes[:3])) + (", ..." if len(shapes) > 3 else "")
        raise ValueError(
            'projection="row" needs weights of two dimensions or more, got only shapes '
            f'{shown}: pass projection="auto" or "off" for them; if a trainer has flattened '
            f"them (DeepSpeed ZeRO 1 and 2 do), {USE}"
        )


def check(groups: list[Group]) -> None:
    """Raise a ValueError if weights of an optimizer have been flattened, as far as is known.

    FSDP1 also marks the vectors of a model that it has not sharded. The matrices show the
    difference: they are marked and still have their shapes.
    """
    marked = [param for param in _params(groups) if getattr(param, "_fsdp_flattened", False)]
    flat = [param for param in _projected(groups) if _is_suspect(param)]
    if not all(map(_is_vector, marked)):
        flat = [param for param in flat if getattr(param, "_is_flat_param", False)]
    if flat:
        raise ValueError(
            "params must have their own shapes, got one of shape "
            f"{tuple(flat[0].shape)} that FSDP1 (FullyShardedDataParallel) has flattened: {USE}, "
            'or pass projection="off"'
        )
    if by_row := [group for group in groups if group["projection"] == "row"]:
        check_group({**by_row[0], "params": list(_params(by_row))})


def check_step(groups: list[Group], group: Group) -> None:
    """Run `check` before a step of `group`: a trainer may flatten weights after `__init__`.

    Warns once if all weights of an optimizer are vectors and one of them is large.
    """
    global _warned
    if group["projection"] == "row" or any(map(_is_suspect, group["params"])):
        check(groups)
    if _warned or _has_rows(_projected(groups)):
        return
    largest = max((param.numel() for param in _projected(groups)), default=0)
    if largest >= LARGE:
        _warned = True
        warnings.warn(
            f"every weight is a vector, the largest of {largest} elements, so no row is projected. "
            f"If a trainer has flattened them (DeepSpeed ZeRO 1 and 2 do), {USE}; "
            'if not, pass projection="off"',
            stacklevel=6,
        )


def _params(groups: Iterable[Group]) -> Iterator[Tensor]:
    return (param for group in groups for param in group["params"])


def _projected(groups: list[Group]) -> Iterator[Tensor]:
    return _params(group for group in groups if group["projection"] != "off")


def _is_suspect(param: Tensor) -> bool:
    """Whether a weight is a flat parameter of FSDP1, or a vector inside a flat parameter."""
    marks = ("_is_flat_param", "_fsdp_flattened")
    return _is_vector(param) and any(getattr(param, mark, False) for mark in marks)


def _has_rows(params: Iterable[Tensor]) -> bool:
    return not all(map(_is_vector, params))


def _is_vector(param: Tensor) -> bool:
    """Whether a weight has fewer than two dimensions; False if it is not initialized."""
    return not is_lazy(param) and param.dim() < 2
