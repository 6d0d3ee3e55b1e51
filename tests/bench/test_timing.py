"""The clock and the rounds that all benchmarks share."""

import time

import pytest
from timing import interleaved, medians, seconds


def test_every_action_runs_once_per_round_and_warm_up_is_dropped():
    calls = []
    actions = {name: lambda name=name: calls.append(name) or len(calls) for name in "abc"}
    measured = interleaved(actions, 4, warm_up=2, before_round=lambda: calls.append("-"))
    rounds = "".join(calls).split("-")[1:]
    assert [sorted(names) for names in rounds] == [["a", "b", "c"]] * 6
    assert len(set(rounds)) > 1  # not always in the same order
    assert {name: len(values) for name, values in measured.items()} == dict.fromkeys("abc", 4)
    assert min(min(values) for values in measured.values()) > len("-abc-abc-")


def test_an_action_may_take_part_in_some_rounds_only():
    seen = interleaved(
        {"slow": bool, "fast": bool}, 5, takes_part=lambda name, turn: name == "fast" or turn == 0
    )
    assert {name: len(values) for name, values in seen.items()} == {"slow": 1, "fast": 5}


def test_medians():
    assert medians({"a": [3.0, 1.0, 2.0], "b": [5.0]}) == {"a": 2.0, "b": 5.0}


@pytest.mark.parametrize(("clock", "least", "most"), [("wall", 0.05, 60), ("cpu", 0, 0.05)])
def test_cpu_time_does_not_count_waiting(clock, least, most):
    assert least <= seconds(lambda: time.sleep(0.05), clock) < most
