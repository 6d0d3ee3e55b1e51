"""HSIC against its definition."""

import math
from itertools import permutations

import pytest
import torch

from tangential_lab.experiments.bias.hsic import dependence


def kernel(z, width=1.0):
    return torch.exp(-(torch.cdist(z, z) ** 2) / (2 * width**2))


def pairs(n, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    x = 0.7 * torch.randn(n, 3, generator=drawn, dtype=torch.float64)
    return x, x[:, :2] + 0.5 * torch.randn(n, 2, generator=drawn, dtype=torch.float64)


@pytest.mark.parametrize("estimate", ["unbiased", "published"])
def test_hsic_is_the_mean_over_all_ordered_quadruples(estimate):
    x, y = pairs(7)
    k, other = kernel(x), kernel(y)
    each = [
        k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])
        for i, j, q, r in permutations(range(7), 4)
    ]
    torch.testing.assert_close(dependence(x, y, estimate=estimate), sum(each) / len(each))


def test_hsic_of_four_pairs_by_hand():
    # the only kernel values: a for the first two, which are alike, else nearly 0
    x = torch.tensor([[0.0], [1.0], [100.0], [200.0]], dtype=torch.float64)
    a = math.exp(-0.5)
    # K and L have a at (1, 2) and (2, 1): (2 a^2 + (2a)^2 / 6 - 2 * 2 a^2 / 2) / 4
    assert dependence(x, x).item() == pytest.approx(a * a / 6)


@pytest.mark.slow
def test_hsic_is_zero_on_average_where_nothing_depends():
    drawn = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2000, 12, 2, generator=drawn, dtype=torch.float64)
    each = torch.stack([dependence(a, b) for a, b in zip(x, y, strict=True)])
    assert abs(each.mean()) < 4 * each.std() / math.sqrt(len(each))
    same = torch.stack([dependence(a, a) for a in x[:100]])
    assert same.mean() > 5 * each.std()


def test_the_median_width_ignores_the_scale():
    x, y = pairs(20)
    at = dependence(x, y, width="median")
    torch.testing.assert_close(dependence(50 * x, 0.01 * y, width="median"), at)
    root = (torch.cdist(x, x) ** 2).median().sqrt().item()
    torch.testing.assert_close(dependence(x, x, width=root), dependence(x, x, width="median"))


def test_the_published_diagonal_changes_rounding_alone():
    x, y = (z.float() for z in pairs(256))
    mine, published = (dependence(x, y, estimate=e) for e in ("unbiased", "published"))
    torch.testing.assert_close(mine, published, rtol=1e-3, atol=0)
    assert dependence(x, y).dtype == torch.float32


def test_hsic_keeps_its_precision_under_autocast():
    x, y = (z.float() for z in pairs(64))
    with torch.autocast("cpu", torch.bfloat16):
        inside = dependence(x, y)
    assert torch.equal(inside, dependence(x, y))


def test_hsic_of_too_few_pairs_is_refused():
    with pytest.raises(ValueError, match=r"at least 4 pairs .*, got 3"):
        dependence(*pairs(3))
