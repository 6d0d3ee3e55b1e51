"""The table of docs/modes.md, each cell tried out."""

import re
import warnings
from pathlib import Path

import adamp
import pytest
import timm.optim
import torch
from torch import nn

from tangential import AdamP

PAGE = (Path(__file__).parents[1] / "docs/modes.md").read_text("utf-8")
COLUMNS = [torch.optim.AdamW, adamp.AdamP, timm.optim.AdamP, AdamP]


def stepped(cls, weight, grad, **options):
    """The weight after one step."""
    p = nn.Parameter(weight.clone())
    p.grad = grad
    cls([p], lr=0.1, **options).step()
    return p.detach()


def channels_last(cls):
    w, g = torch.randn(2, 4, 3, 2, 2)
    last = stepped(
        cls,
        w.to(memory_format=torch.channels_last),
        g.to(memory_format=torch.channels_last),
    )
    return torch.allclose(last, stepped(cls, w, g), atol=1e-6)


def empty(cls):
    return all(stepped(cls, torch.zeros(s), torch.zeros(s)).shape == s for s in [(0, 5), (5, 0)])


def complex_vector(cls):
    """The first step of Adam goes along the gradient, whatever its phase."""
    after = stepped(cls, torch.ones(3, dtype=torch.complex64), torch.full((3,), 1j), weight_decay=0)
    return torch.allclose(after, torch.full((3,), 1 - 0.1j), atol=1e-4)


def float16_rows(cls):
    """Row norms past 65504; AdamW's own non-finite elements do not count."""
    torch.manual_seed(0)
    w, g = (torch.randn(2, 32, 32) * 50).half()
    g -= ((g.float() * w.float()).sum(1) / w.float().square().sum(1))[:, None].half() * w
    lost = ~stepped(cls, w, g).isfinite() & stepped(torch.optim.AdamW, w, g).isfinite()
    return not lost.any()


def caught(cls):
    p = nn.Parameter(torch.randn(3, 3))
    loss = (p**2).sum()
    p.grad = torch.ones(3, 3)
    cls([p], lr=0.1).step()
    try:
        loss.backward()
    except RuntimeError as error:
        return "inplace" in str(error)
    return False


def closure_with_gradients(cls):
    p = nn.Parameter(torch.ones(2, 2))

    def closure():
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        cls([p], lr=0.1).step(closure)
    return True


def change_over(cls):
    """A run of torch's AdamW goes on in this optimizer, moments and step count kept."""
    p = nn.Parameter(torch.randn(3, 3))
    p.grad = torch.randn(3, 3)
    first = torch.optim.AdamW([p])
    first.step()
    second = cls([p])
    second.load_state_dict(first.state_dict())
    second.step()
    return int(second.state[p]["step"]) == 2


def misspelt(cls):
    try:
        cls([{"params": [nn.Parameter(torch.ones(2))], "weight_decai": 0.1}], lr=0.1)
    except (TypeError, ValueError):
        return True
    return False


def bad_values(cls):
    for options in ({"lr": float("nan")}, {"betas": (1.0, 0.9)}, {"weight_decay": -1.0}):
        try:
            cls([nn.Parameter(torch.ones(2))], **options)
            return False
        except ValueError:
            pass
    return True


CHECKS = {
    "channels_last weights": channels_last,
    "empty weights": empty,
    "complex vectors": complex_vector,
    "float16 rows of large norm": float16_rows,
    "autograd catches a step before backward": caught,
    "closure under `no_grad`": closure_with_gradients,
    "takes over a run of torch's AdamW": change_over,
    "misspelt group option is refused": misspelt,
    "NaN lr, betas of 1, negative decay are refused": bad_values,
}


def table():
    """Rows of the table: name -> cells."""
    rows = {}
    for line in PAGE.splitlines():
        name, *cells = (cell.strip() for cell in re.split(r"\|", line.strip("| ")))
        if name in CHECKS:
            rows[name] = cells
    return rows


def test_every_row_is_checked():
    assert table().keys() == CHECKS.keys()


@pytest.mark.parametrize("column", range(4), ids=["AdamW", "adamp", "timm", "tangential"])
@pytest.mark.parametrize("name", CHECKS)
def test_each_cell_of_the_table(name, column):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            works = CHECKS[name](COLUMNS[column])
    except (RuntimeError, IndexError, KeyError):
        works = False
    assert table()[name][column] == ("yes" if works else "no")
