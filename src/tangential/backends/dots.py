"""Inner products per unit of many weights, in few operations.

Products of small weights share a buffer, which has one unit after another. It is summed in pieces,
and the pieces of every unit are added up. Larger weights have operations of their own.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.backends.rows import Rows

Arrays = dict[str, list[Any]]  # by a letter: a tensor per weight, or None for zeros

WIDTH = 64  # elements of a piece
MOST_PIECES = 256  # on the CPU, torch adds up a segment in sequence: more would cost a digit

# Elements of the largest weights that share a buffer: copies of larger ones take longer than the
# launches that they save. On a GPU this has not been measured. Units are even if they are made of
# whole pieces; short segments, as others need, leave most threads of a GPU idle.
ON_CPU, EVEN, UNEVEN = 2**12, 2**22, 2**16

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def dots(rows: list[Rows], arrays: Arrays, products: list[str], like: Tensor) -> list[Tensor]:
    """Inner products per unit [units of all], over local elements.

    Args:
        rows: The units of the weights.
        arrays: Lists of weight-shaped arrays.
        products: The letters of two arrays each, such as "gw". It saves a copy if the second one is
            also that of the product before.
        like: A tensor with the dtype and the device of all arrays.
    """
    columns = zip(*arrays.values(), strict=True)
    likes: list[Any] = [next((x for x in xs if x is not None), None) for xs in columns]
    small = [i for i, x in enumerate(likes) if x is not None and _is_small(rows[i], x)]
    small = small if len(small) > 1 else []
    sums: dict[int, Tensor] = {}
    if small:
        small.sort(key=lambda i: likes[i].numel() // rows[i].units % WIDTH > 0)
        parts = {name: [xs[i] for i in small] for name, xs in arrays.items()}
        together = _together([rows[i] for i in small], parts, products, [likes[i] for i in small])
        sums |= zip(small, together.split([rows[i].units for i in small], 1), strict=True)
    for i in set(range(len(rows))) - sums.keys():
        pairs = [(arrays[a][i], arrays[b][i]) for a, b in products]
        sums[i] = torch.stack([_dot(rows[i], x, y, like) for x, y in pairs])
    return [*torch.cat([sums[i] for i in range(len(rows))], 1).unbind()]


def _dot(rows: Rows, x: Tensor | None, y: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(rows.units) if x is None or y is None else rows.dot(x, y)


def _is_small(rows: Rows, x: Tensor) -> bool:
    """Whether the local part x of a weight should share a buffer with others."""
    size = x.numel()
    if size == 0 or rows.local_rows is not None:
        return False
    return size <= (ON_CPU if x.is_cpu else UNEVEN if size // rows.units % WIDTH else EVEN)


class _Segments(NamedTuple):
    """How the contents of a buffer are added up.

    Attributes:
        even: The elements, from the start, of units that are made of whole pieces.
        uneven: The lengths of the pieces of the other units.
        levels: Numbers of pieces that are added up together; the last level is one unit each.
    """

    even: int
    uneven: Tensor
    levels: list[Tensor]


def _together(rows: list[Rows], arrays: Arrays, products: list[str], likes: list[Tensor]) -> Tensor:
    """The products [products, units of all] of weights, those of even units first."""
    shapes = tuple((r.units, x.numel() // r.units) for r, x in zip(rows, likes, strict=True))
    segments, sizes = _segments(shapes, len(products), likes[0].device), [x.numel() for x in likes]
    buffer = likes[0].new_empty(sum(sizes))
    views = [_view(*each) for each in zip(buffer.split(sizes), rows, likes, strict=True)]
    sums = torch.cat(_pieces(buffer, views, arrays, products, segments))
    for level in segments.levels:
        sums = _segment_sums(sums, level)
    return sums.view(len(products), -1)


def _pieces(
    buffer: Tensor, views: list[Tensor], arrays: Arrays, products: list[str], segments: _Segments
) -> list[Tensor]:
    """The sums of all pieces, product by product."""
    even, uneven = buffer[: segments.even].view(-1, WIDTH), buffer[segments.even :]
    sums, held = [], ""
    for a, b in products:
        if b != held:
            _on_arrays(torch._foreach_copy_, views, arrays[b])
        if a != b:
            _on_arrays(torch._foreach_mul_, views, arrays[a])
        held = b if a == b else ""
        sums.append(torch.linalg.vector_norm(even, dim=1).square() if held else even.sum(1))
        if len(uneven):
            sums.append(_segment_sums(uneven.square() if held else uneven, segments.uneven))
    return sums


def _segment_sums(x: Tensor, lengths: Tensor) -> Tensor:
    return torch.segment_reduce(x, "sum", lengths=lengths, unsafe=True)


def _on_arrays(operation: Callable[..., Any], views: list[Tensor], xs: list[Any]) -> None:
    """Apply an in-place operation of two lists; a view whose array is None becomes 0."""
    pairs = [(view, x) for view, x in zip(views, xs, strict=True) if x is not None]
    if pairs:
        operation([view for view, _ in pairs], [x for _, x in pairs])
    if len(pairs) < len(xs):
        torch._foreach_zero_([view for view, x in zip(views, xs, strict=True) if x is None])


def _view(part: Tensor, rows: Rows, like: Tensor) -> Tensor:
    """A part of the buffer in the shape of a weight, in which every unit is contiguous.

    It has the weight's strides where it can: operations on equal strides need fewer launches.
    """
    axis, shape = rows.row_axis, like.shape
    if axis:
        return part.view(shape[axis], *shape[:axis], *shape[axis + 1 :]).movedim(0, axis)
    layout = CHANNELS_LAST.get(like.dim())
    if layout and like.is_contiguous(memory_format=layout):
        return part.as_strided(shape, like.stride())
    return part.view(shape)


# One entry per batch of each parameter group; it has a number per unit, and per piece of a unit
# that is not made of whole pieces.
@lru_cache(maxsize=1024)
def _segments(sizes: tuple[tuple[int, int], ...], products: int, device: torch.device) -> _Segments:
    """The segments of weights, the even ones first: number of units, elements per unit.

    Created on the CPU and copied without waiting for the device.
    """
    units, lengths = torch.tensor(sizes, device="cpu").unbind(1)
    lengths = lengths.repeat_interleave(units)
    is_even = lengths % WIDTH == 0
    even = int(lengths[is_even].sum())
    uneven, counts = _split(lengths[~is_even], WIDTH)
    counts = torch.cat([lengths[is_even] // WIDTH, counts])
    levels: list[Tensor] = []
    while int(counts.max()) > MOST_PIECES:
        level, counts = _split(counts, MOST_PIECES)
        levels.append(level)
    levels = [level.repeat(products).to(device, non_blocking=True) for level in (*levels, counts)]
    return _Segments(even, uneven.to(device, non_blocking=True), levels)


def _split(lengths: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The lengths of the parts when every segment is split into parts of `most`; their numbers."""
    counts = (lengths + most - 1) // most
    parts = lengths.new_full((int(counts.sum()),), most)
    parts[counts.cumsum(0) - 1] += lengths - counts * most
    return parts, counts
