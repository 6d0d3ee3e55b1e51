"""How strongly two sets of features depend on each other (Gretton et al. 2005)."""

from typing import Literal

import torch
from torch import Tensor

TINY = 1e-12  # makes the kernel of identical features finite


def dependence(
    x: Tensor,
    y: Tensor,
    *,
    width: float | Literal["median"] = 1.0,
    estimate: Literal["unbiased", "published"] = "unbiased",
) -> Tensor:
    """The Hilbert-Schmidt independence criterion of n pairs, with kernels exp(-d^2 / 2 width^2).

    With K and L the kernel matrices without their diagonals, and 1 a vector of ones, it is
    (tr KL + 1'K1 1'L1 / (n-1)(n-2) - 2 1'KL1 / (n-2)) / n(n-3). Its mean is 0 if x and y are
    independent (Song et al. 2012, equation 5).

    Args:
        x: Features [n, p], n > 3.
        y: Features [n, q].
        width: Width of the kernels; "median" is the root of each kernel's median squared distance.
        estimate: "published" is the code of ReBias, which subtracts the diagonal as a vector from
            every row. The diagonal is all ones, and a constant changes nothing: the two estimates
            differ only by rounding.
    """
    n = len(x)
    if n < 4:
        raise ValueError(f"HSIC needs at least 4 pairs of features, got {n}")
    with torch.autocast(x.device.type, enabled=False):
        k, other = (_kernel(z, width, estimate) for z in (x, y))
        sums = k.sum(0), other.sum(0)
        parts = (
            (k * other.T).sum()
            + sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (sums[0] @ sums[1])
        )
        return parts / (n * (n - 3))


def _kernel(z: Tensor, width: float | Literal["median"], estimate: str) -> Tensor:
    """The kernel matrix without its diagonal, in float32 or wider."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    squares = (z * z).sum(1)
    apart = (squares + squares[:, None] - 2 * z @ z.T).clamp(min=0)
    variance = apart.detach().median().clamp(min=TINY) if width == "median" else width**2
    kernel = torch.exp(apart / (-2 * variance))
    diagonal = kernel.diagonal()
    return kernel - (diagonal if estimate == "published" else diagonal.diag())
