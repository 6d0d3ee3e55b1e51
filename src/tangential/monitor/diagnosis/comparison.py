"""Two runs compared in words."""

import math
from collections.abc import Iterator
from pathlib import Path

from tangential.monitor.diagnosis.criteria import OFF
from tangential.monitor.diagnosis.runs import Run
from tangential.monitor.diagnosis.verdicts import diagnose, figures
from tangential.monitor.diagnosis.wording import (
    Verdict,
    fell,
    multiple,
    of_equilibrium,
    percent,
)

SIZES = {  # what ends longer, larger or further in one of the runs
    "lr": "lr",
    "norm": "median norm",
    "effective_step": "effective step",
    "all_norm": "mean norm of all matrices",
    "all_angle_rad": "mean angle per step of all matrices",
}
NEUTRAL = ("sound", "not checked")  # verdicts that name no problem
SENTENCES = {  # {0}: the first run, {1}: the second; {2}, {3}: their values
    "slowdown": ("The effective step per lr {2} in {0}; in {1} it {3}.", fell),
    "memory_share": (
        "Momentum causes {2} of the norm growth in {0} and {3} in {1}.",
        lambda share: percent(share) if share > 0 else "none",
    ),
    "angle_over_equilibrium": (
        "The angle per step is {2} in {0} and {3} in {1}.",
        of_equilibrium,
    ),
}


def compare(run: Run, other: Run) -> list[Verdict]:
    """What differs between two runs, and which lr would give both the same effective step.

    Args:
        run: The first run.
        other: The second run.

    >>> from tangential.monitor.diagnosis.runs import load
    >>> runs = [load([{"step": 0, "label": "all", "norm": norm}]) for norm in (2.0, 1.0)]
    >>> compare(*runs)[0].text.partition(" of the")[0]
    'At the end, the mean norm of all matrices'
    """
    names = Path(run.name).stem, Path(other.name).stem
    if names[0] == names[1]:
        names = "the first run", "the second run"
    a, b = figures(run), figures(other)
    sizes = [key for key in SIZES if _positive(a[key], b[key])]
    if "norm" in sizes:  # of the scale-invariant weights, which decide
        sizes = [key for key in sizes if not key.startswith("all_")]
    texts = [_size(SIZES[key], names, a[key], b[key]) for key in sizes]
    verdicts = [_verdict(key, text, a, b) for key, text in zip(sizes, texts, strict=True)]
    for key, (words, shown) in SENTENCES.items():
        if math.isfinite(a[key]) and math.isfinite(b[key]):
            verdicts.append(_verdict(key, words.format(*names, shown(a[key]), shown(b[key])), a, b))
    return [*verdicts, *_same_step(names, a, b), *_findings(names, run, other)]


def _positive(*values: float) -> bool:
    """Whether values, and their ratios, are positive and finite."""
    return all(0 < x < math.inf for x in values) and max(values) / min(values) < math.inf


def _verdict(key: str, text: str, a: dict[str, float], b: dict[str, float]) -> Verdict:
    return Verdict("comparison", text, {f"first_{key}": a[key], f"second_{key}": b[key]})


def _size(what: str, names: tuple[str, str], x: float, y: float) -> str:
    """The larger value as a multiple of the smaller one."""
    (small, less), (large, more) = sorted(zip((x, y), names, strict=True), key=lambda item: item[0])
    times, larger, smaller = multiple(large / small), f"{large:.3g}", f"{small:.3g}"
    if larger == smaller:
        return f"At the end, both runs have the same {what} ({larger})."
    if times == "1.0":
        return f"At the end, both runs have about the same {what} ({x:.3g} and {y:.3g})."
    return (
        f"At the end, the {what} of {more} is {times} times that of {less} "
        f"({larger} against {smaller})."
    )


def _same_step(
    names: tuple[str, str], a: dict[str, float], b: dict[str, float]
) -> Iterator[Verdict]:
    """The lr that would make effective steps equal: at one norm they are proportional to lr."""
    known = (a["effective_step"], b["effective_step"], a["lr"], b["lr"])
    if not _positive(*known):
        return
    times = a["effective_step"] / b["effective_step"]
    if 1 / OFF < times < OFF:
        return
    slow, fast, times, lr = (
        (names[1], names[0], times, b["lr"])
        if times > 1
        else (names[0], names[1], 1 / times, a["lr"])
    )
    text = (
        f"To give {slow} the effective step of {fast}, raise its lr {multiple(times)}-fold, to "
        f"{times * lr:.2g}, at the norms that it has at the end."
    )
    yield Verdict("same effective step", text, {"times": times, "lr": times * lr})


def _findings(names: tuple[str, str], run: Run, other: Run) -> Iterator[Verdict]:
    """Which problems only one of the runs has, and which both."""
    ours, theirs = (
        {x.kind for x in diagnose(one) if x.kind not in NEUTRAL} for one in (run, other)
    )
    groups = {
        f"only in {names[0]}": ours - theirs,
        f"only in {names[1]}": theirs - ours,
        "in both": ours & theirs,
    }
    parts = [f"{where}: {', '.join(sorted(kinds))}" for where, kinds in groups.items() if kinds]
    if parts:
        yield Verdict("findings", f"Problems {'; '.join(parts)}.", {})
