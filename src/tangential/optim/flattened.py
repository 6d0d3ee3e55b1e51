"""Detects weights that a trainer has flattened: they have no rows, so they cannot be projected.

FSDP1 marks its flat parameters, DeepSpeed ZeRO 1 and 2 do not.
"""

import warnings
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

Group = dict[str, Any]

LARGE = 2**20  # elements: vectors of ordinary models are smaller

USE = "use FSDP2 (fully_shard), or FSDP1 with use_orig_params=True and ShardingStrategy.NO_SHARD"


def is_suspect(param: Tensor) -> bool:
    """Whether a weight is a flat parameter of FSDP1, or a vector inside a flat parameter."""
    return _is_vector(param) and (
        getattr(param, "_is_flat_param", False) or getattr(param, "_fsdp_flattened", False)
    )


def check_group(group: Group) -> None:
    """Check that a group whose rows are to be projected has rows; weights may be empty.

    Raises:
        ValueError: `projection` is "row", and every weight is a vector or a number.
    """
    some = any(is_lazy(param) or param.numel() for param in group["params"])
    if group["projection"] == "row" and some and not _has_rows([group]):
        shapes = sorted({tuple(param.shape) for param in group["params"]})
        shown = ", ".join(map(str, shapes[:3])) + (", ..." if len(shapes) > 3 else "")
        raise ValueError(
            'projection="row" needs weights of two dimensions or more, got only shapes '
            f'{shown}: pass projection="auto" or "off" for them; if a trainer has flattened '
            f"them (DeepSpeed ZeRO 1 and 2 do), {USE}"
        )


def check(groups: list[Group]) -> None:
    """Check that no weight of an optimizer has been flattened, as far as we can detect it.

    FSDP1 also marks the vectors of a model that it has not sharded. The matrices show the
    difference: they are marked and still have their shapes.

    Raises:
        ValueError: FSDP1 has flattened weights, or no group that is to be projected by row has
            rows.
    """
    params = chain.from_iterable(group["params"] for group in groups)
    marked = [param for param in params if getattr(param, "_fsdp_flattened", False)]
    projected = [group for group in groups if group["projection"] != "off"]
    params = chain.from_iterable(group["params"] for group in projected)
    suspects = [param for param in params if is_suspect(param)]
    flat = [param for param in suspects if getattr(param, "_is_flat_param", False)]
    if all(map(_is_vector, marked)):
        flat = suspects
    if flat:
        raise ValueError(
            "params must have their own shapes, got one of shape "
            f"{tuple(flat[0].shape)} that FSDP1 (FullyShardedDataParallel) has flattened: {USE}, "
            'or pass projection="off"'
        )
    by_row = [group for group in groups if group["projection"] == "row"]
    if by_row and not _has_rows(by_row):
        check_group({**by_row[0], "params": [p for group in by_row for p in group["params"]]})


def check_step(groups: list[Group], group: Group) -> None:
    """Run `check` before a step of `group`: a trainer may flatten weights after `__init__`.

    Warns once if all weights of an optimizer are vectors and one of them is large.
    """
    if torch.compiler.is_compiling():  # an earlier step has checked
        return
    if group["projection"] == "row" or any(map(is_suspect, group["params"])):
        check(groups)
    _warn([group for group in groups if group["projection"] != "off"])


_warned = False


def _warn(groups: list[Group]) -> None:
    global _warned
    if _warned or _has_rows(groups):
        return
    largest = max((p.numel() for group in groups for p in group["params"]), default=0)
    if largest >= LARGE:
        _warned = True
        warnings.warn(
            f"every weight is a vector, the largest of {largest} elements, so no row is projected. "
            f"If a trainer has flattened them (DeepSpeed ZeRO 1 and 2 do), {USE}; "
            'if not, pass projection="off"',
            stacklevel=6,
        )


def _has_rows(groups: list[Group]) -> bool:
    return any(not _is_vector(param) for group in groups for param in group["params"])


def _is_vector(param: Tensor) -> bool:
    """Whether a weight has fewer than two dimensions; False if it is not initialized."""
    return not is_lazy(param) and param.dim() < 2
