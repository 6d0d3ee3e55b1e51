"""bench/per_weight.py: a ratio for every optimizer."""

import per_weight


def test_every_optimizer_has_a_ratio(capsys, monkeypatch):
    monkeypatch.setattr(per_weight, "SHAPES", {"resnet50": lambda: [(3, 4), (5,)]})
    per_weight.main(["--rounds", "1", "--threads", "1"])
    _, title, *lines = capsys.readouterr().out.splitlines()
    assert "of 2, and" in title
    assert [line.split()[0] for line in lines] == ["tangential", "torch"] * 2
    assert all(float(line.split()[-1][:-1]) > 0 for line in lines)
