"""What a monitor's logs say about a run, in words."""

import math
from collections.abc import Iterator
from pathlib import Path

from tangential.monitor import criteria
from tangential.monitor.runs import MIN_LOGS, SHARE, WARM_UP, Log, Rows, Run, load, middle, ratio
from tangential.monitor.verdicts import Verdict, counted, fell, fold
from tangential.names import listed

CRITERIA = (
    criteria.slowdown,
    criteria.weak_decay,
    criteria.no_decay,
    criteria.projected,
    criteria.unequal,
    criteria.frozen,
)
MOVING = "slowdown, decay and rotation"  # what scale-invariant weights are looked at for


def diagnose(run: "str | Path | Rows | Run") -> list[Verdict]:
    """What is wrong with how the weights of a run move, each finding with its numbers.

    Premature slowdown, decay too weak (or none), projections of what is not scale-invariant,
    layers that rotate unequally, frozen normalisations: `tangential.monitor.criteria` has the
    thresholds. Then what could not be checked, and, where nothing was found, what was.

    Args:
        run: A monitor's CSV file, its folder of Parquet files, or rows as `sinks.memory` has them.
            It should have lines by weight.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no monitor's, or empty.

    >>> rows = [{"step": step, "label": "all", "frozen_norms": 2.0} for step in (0, 50)]
    >>> diagnose(rows)[0].text
    'Frozen normalisation: 2 normalisations worked by running statistics since step 0; which, a \
sink with weights=True says.'
    """
    run = run if isinstance(run, Run) else load(run)
    found = [verdict for criterion in (*CRITERIA, _not_finite) for verdict in criterion(run)]
    return [*(found or [_sound(run)]), *_unchecked(run)]


def _sound(run: Run) -> Verdict:
    checked = figures(run)
    parts = [
        words.format(say(checked[name]))
        for name, words, say in (
            ("slowdown", "the effective step per lr {}", fell),
            (
                "angle_over_equilibrium",
                "the angle is {} times that of equilibrium",
                "{:.2g}".format,
            ),
            ("fastest_over_slowest", "the fastest turns {} as far as the slowest", fold),
        )
        if checked[name] == checked[name]
    ]
    text = (
        f"Nothing wrong was found in steps {run.steps[0]:,} to {run.steps[-1]:,} "
        f"({counted(len(run.steps), 'log')})"
    )
    text += f": over {criteria.subject(run)} {', '.join(parts)}" if parts else ""
    text += f"; no sign of a wrong projection in {counted(len(run.weights), 'weight')}"
    text = text if run.weights else text.rpartition(";")[0]
    return Verdict("sound", f"{text}; no frozen normalisation.", checked, tuple(run.courses))


def _not_finite(run: Run) -> Iterator[Verdict]:
    if run.lost:
        first = min(run.lost.values())
        names = listed(run.lost)
        text = f"Norms are not finite since step {first:,}: {names}; medians leave them out."
        yield Verdict("not finite", text, {"since_step": float(first)}, tuple(run.lost))


def _unchecked(run: Run) -> Iterator[Verdict]:
    """What no criterion could look at, and why."""
    if run.courses:
        return
    if not run.weights:
        why = f"a sink with weights=True logs lines by weight: {MOVING}, projections"
    elif not run.invariant:
        ground = "the audit proved it of none" if run.audited else "the gate mostly fires on none"
        why = f"no weight is known to be scale-invariant, {ground}: {MOVING}"
    else:
        why = (
            f"of a scale-invariant weight {MIN_LOGS} logs are needed in which it turned, "
            f"{WARM_UP} steps or more after the first: {MOVING}"
        )
    yield Verdict(
        "not checked", f"Not checked ({why.replace(': ', '): ')}.", {"logs": float(len(run.steps))}
    )


def figures(run: Run) -> dict[str, float]:
    """What runs can be compared by: medians over the scale-invariant weights; NaN if unknown.

    Those that begin with "all_" are means over every matrix.

    >>> figures(load([{"step": 0, "label": "all", "norm": 2.0}]))["all_norm"]
    2.0
    """
    last = {
        name: run.over(lambda course, name=name: course.last[name])
        for name in ("lr", "norm", "effective_step", "angle_rad", "equilibrium_rad")
    }
    fall = {name: run.over(lambda x, c=name: x.fall(c)) for name in ("effective_step", "lr")}
    ends = [run.courses[k].last["angle_rad"] for k in criteria.extremes(run)] if run.courses else []
    every = run.logs.get("all", Log())
    end = -max(1, len(every.steps) // SHARE)
    return {
        **last,
        "norm_growth": criteria.norm_growth(run),
        "slowdown": ratio(fall["effective_step"], fall["lr"]),
        "angle_over_equilibrium": run.over(
            lambda x: ratio(x.last["angle_rad"], x.last["equilibrium_rad"])
        ),
        "memory_share": criteria.memory_share(run),
        "fastest_over_slowest": ratio(ends[1], ends[0]) if len(run.courses) > 1 else math.nan,
        "frozen_norms": max((x for x in every.column("frozen_norms") if x > 0), default=0.0),
        "all_norm": middle(every.column("norm")[end:]),
        "all_angle_rad": middle(every.column("angle_rad")[end:]),
    }
