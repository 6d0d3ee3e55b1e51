"""Inner products of many weights at once are those of each weight alone."""

import pytest
import torch

from tangential.backends import Rows, Units, dots, rows_of

WEIGHTS = {
    "whole pieces": lambda make: make(3, 64),
    "several pieces": lambda make: make(2, 6, 64),
    "short rows": lambda make: make(8, 3),
    "a piece and a rest": lambda make: make(4, 67),
    "rows of one element": lambda make: make(6, 1),
    "one row": lambda make: make(1, 9),
    "channels last": lambda make: make(4, 8, 2, 4).to(memory_format=torch.channels_last),
    "3d, channels last": lambda make: make(2, 4, 2, 2, 2).to(memory_format=torch.channels_last_3d),
    "transposed": lambda make: make(6, 4).t(),
    "strided": lambda make: make(4, 12)[:, ::2],
    "vector": lambda make: make(70),
    "pairs": lambda make: torch.complex(make(2, 6), make(2, 6)),
    "two levels of segments": lambda make: make(2, 64 * 5),
    "three levels of segments": lambda make: make(1, 64 * 4 * 4 + 1),
}
UNITS = {
    "rows": Units("auto"),
    "columns": Units("auto", row_axis=1),
    "pairs of rows": Units("auto", row_groups=2),
    "weights": Units("weight"),
}


def units_or_none(weight, units):
    try:
        return rows_of(weight, units)
    except ValueError:  # an odd number of rows
        return None


@pytest.fixture
def short_segments(monkeypatch):
    """Segments of so few pieces that small weights need several levels of them."""
    monkeypatch.setattr(dots, "MOST_PIECES", 4)
    dots._segments.cache_clear()
    yield
    dots._segments.cache_clear()


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 6), (torch.float64, 14)])
@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
def test_products_of_many_weights_are_those_of_each_alone(units, dtype, digits, monkeypatch):
    make = lambda *shape: torch.randn(shape, dtype=dtype)
    weights = [make_weight(make) for make_weight in WEIGHTS.values()]
    layouts = [(w, units_or_none(w, units)) for w in weights]
    rows = [layout for _, layout in layouts if layout is not None]
    ws = [torch.view_as_real(w) if w.is_complex() else w for w, layout in layouts if layout]
    gs = [None if i % 4 == 3 else torch.randn_like(w) for i, w in enumerate(ws)]
    expected = {
        name: torch.cat(
            [
                torch.zeros(r.units) if x is None or y is None else r.dot(x.double(), y.double())
                for r, x, y in zip(rows, *pair, strict=True)
            ]
        ).double()
        for name, pair in {"ww": (ws, ws), "gw": (gs, ws), "gg": (gs, gs), "wg": (ws, gs)}.items()
    }
    scales = {name: (expected[2 * name[0]] * expected[2 * name[1]]).sqrt() for name in expected}

    def alone(*_):
        raise AssertionError("all weights should share a buffer")

    monkeypatch.setattr(Rows, "dot", alone)
    sums = dots.dots(rows, {"w": ws, "g": gs}, [*expected], ws[0])
    for actual, (name, exact) in zip(sums, expected.items(), strict=True):
        assert ((actual.double() - exact).abs() <= 10.0**-digits * scales[name]).all(), name


def test_large_weights_and_shards_without_elements_are_summed_alone():
    ws = [torch.randn(2, 3), torch.randn(2, 9000), torch.randn(2, 64), torch.randn(2, 0)]
    rows = [rows_of(torch.empty(2, 3 if w.numel() == 0 else w.shape[1]), Units("row")) for w in ws]
    (sums,) = dots.dots(rows, {"w": ws}, ["ww"], ws[0])
    exact = torch.cat([w.double().square().sum(1) for w in ws[:3]] + [torch.zeros(2)])
    torch.testing.assert_close(sums.double(), exact, rtol=1e-6, atol=0)
