"""bench/compiled.py: a line per optimizer, with ratios to torch's; nothing is compiled here."""

import compiled
import pytest


def test_prints_seconds_and_ratios(capsys, monkeypatch):
    seconds = {"AdamW": 10.0, "AdamP": 5.0, "SGD": 4.0, "SGDP": 6.0}
    steps = {name: lambda: None for name in seconds}
    monkeypatch.setattr(compiled, "SHAPES", {"resnet18": lambda: [(3, 2)]})
    monkeypatch.setattr(compiled, "compiled", lambda params: (seconds, steps))
    compiled.main(["--rounds", "1"])
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[2:]]
    assert lines == [
        ["AdamW", "10.0", "(1.00x)"],
        ["AdamP", "5.0", "(0.50x)"],
        ["SGD", "4.0", "(1.00x)"],
        ["SGDP", "6.0", "(1.50x)"],
    ]


def test_refuses_no_rounds(capsys):
    with pytest.raises(SystemExit):
        compiled.main(["--rounds", "0"])
    assert "--rounds: must be at least 1, got 0" in capsys.readouterr().err
