"""bench/cache.py: a price for every row length and gate, and the calls that it refuses."""

import cache
import pytest
from table import needs_kernel

pytestmark = needs_kernel


def test_every_length_has_a_price_open_and_shut(capsys, monkeypatch):
    monkeypatch.setattr(cache, "ROWS", {"9": [(400, 3, 3)], "64": [(100, 64)]})
    cache.main(["--rounds", "1"])
    first, _, _, *lines = capsys.readouterr().out.splitlines()
    assert cache.native.kernel.instruction_sets[0] in first
    assert [line.split()[:2] for line in lines] == [
        [rows, gate] for rows in ("9", "64") for gate in ("open", "shut")
    ]


def test_price_is_per_element_and_without_that_of_a_call(monkeypatch):
    def seconds(step):  # 5 ns per element, and 1,000 for the call
        elements = sum(p.numel() for p in step.__self__.param_groups[0]["params"])
        return cache.STEPS * 1e-9 * (5 * elements + 1000)

    monkeypatch.setattr(cache, "_seconds", seconds)
    prices = cache.price([(8, 5), (10, 5)], "open", 2)
    assert prices == pytest.approx([5 * (90 - 2) / 90] * 4)  # the tiny weight has 2 elements


def test_refuses_no_rounds(capsys):
    with pytest.raises(SystemExit):
        cache.main(["--rounds", "0"])
    assert "--rounds: must be at least 1, got 0" in capsys.readouterr().err
