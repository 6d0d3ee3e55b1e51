"""What a monitor's logs say about a run: every criterion, and what could not be checked."""

import math
from collections.abc import Iterator
from pathlib import Path

from tangential.monitor.diagnosis import criteria
from tangential.monitor.diagnosis.runs import (
    MIN_LOGS,
    SHARE,
    WARM_UP,
    Log,
    Rows,
    Run,
    finite_median,
    load,
    ratio,
)
from tangential.monitor.diagnosis.wording import Verdict, counted, fell, times
from tangential.names import listed

CRITERIA = (
    criteria.slowdown,
    criteria.weak_decay,
    criteria.no_decay,
    criteria.wrong_projection,
    criteria.unequal,
    criteria.frozen,
)
MOVING = "slowdown, decay and rotation"  # checks that need scale-invariant weights


def diagnose(run: "str | Path | Rows | Run") -> list[Verdict]:
    """Find what is wrong with how the weights of a run move.

    Premature slowdown, decay too weak (or none), projections of weights that are not
    scale-invariant, layers that rotate unequally, frozen normalisations; the thresholds are in
    `tangential.monitor.diagnosis.criteria`. If nothing is wrong, one verdict says what was checked.
    Another verdict says what could not be checked.

    Args:
        run: A monitor's CSV file, its folder of Parquet files, or rows as in `sinks.memory`.
            It should have lines for every weight.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: it was not written by a monitor, or is empty.

    >>> rows = [{"step": step, "label": "all", "frozen_norms": 2.0} for step in (0, 50)]
    >>> print(diagnose(rows)[0].text.partition(".")[0])
    Frozen normalisation: 2 normalisations used running statistics since step 0
    """
    run = run if isinstance(run, Run) else load(run)
    findings = [verdict for criterion in (*CRITERIA, _diverged) for verdict in criterion(run)]
    return [*(findings or [_sound(run)]), *_unchecked(run)]


def _sound(run: Run) -> Verdict:
    numbers = figures(run)
    known = {name: x for name, x in numbers.items() if x == x}
    parts = []
    if "slowdown" in known:
        parts += [f"the effective step per lr {fell(known['slowdown'])}"]
    if "angle_over_equilibrium" in known:
        parts += [f"the angle is {known['angle_over_equilibrium']:.2g} times that of equilibrium"]
    if "fastest_over_slowest" in known:
        apart = times(known["fastest_over_slowest"])
        parts += [f"the fastest weight turns {apart} as far as the slowest"]
    text = (
        f"Nothing wrong was found in steps {run.steps[0]:,} to {run.steps[-1]:,} "
        f"({counted(len(run.steps), 'log')})"
    )
    text += f": over {criteria.subject(run)} {', '.join(parts)}" if parts else ""
    if run.weights:
        text += f"; no sign of a wrong projection in {counted(len(run.weights), 'weight')}"
    return Verdict("sound", f"{text}; no frozen normalisation.", numbers, tuple(run.trends))


def _diverged(run: Run) -> Iterator[Verdict]:
    if run.diverged:
        first = min(run.diverged.values())
        names = listed(run.diverged)
        text = f"Norms are not finite since step {first:,}: {names}; medians leave them out."
        yield Verdict("not finite", text, {"since_step": float(first)}, tuple(run.diverged))


def _unchecked(run: Run) -> Iterator[Verdict]:
    """A verdict about what no criterion could check, and why."""
    if run.trends:
        return
    what = MOVING
    if not run.weights:
        what += ", projections"
        why = "these need values for every weight, which a sink with weights=True logs"
    elif not run.invariant:
        reason = "the audit found none" if run.audited else "and the gate mostly fires on none"
        why = f"no weight is known to be scale-invariant, {reason}"
    else:
        why = (
            f"{MIN_LOGS} logs are needed in which a scale-invariant weight turned, "
            f"{WARM_UP} steps or more after the first log"
        )
    yield Verdict("not checked", f"Not checked: {what}; {why}.", {"logs": float(len(run.steps))})


def figures(run: Run) -> dict[str, float]:
    """Numbers to compare runs by: medians over the scale-invariant weights; NaN if unknown.

    Those that begin with "all_" are means over every matrix.

    >>> figures(load([{"step": 0, "label": "all", "norm": 2.0}]))["all_norm"]
    2.0
    """
    last = {
        name: run.median(lambda trend, name=name: trend.last[name])
        for name in ("lr", "norm", "effective_step", "angle_rad", "equilibrium_rad")
    }
    step, lr = (run.median(lambda x, c=name: x.fall(c)) for name in ("effective_step", "lr"))
    apart = math.nan
    if len(run.trends) > 1:
        ends = criteria.slowest_and_fastest(run)
        slow, fast = (run.trends[name].last["angle_rad"] for name in ends)
        apart = ratio(fast, slow)
    every = run.logs.get("all", Log())
    end = -max(1, len(every.steps) // SHARE)
    return {
        **last,
        "norm_growth": criteria.norm_growth(run),
        "slowdown": ratio(step, lr),
        "angle_over_equilibrium": run.median(
            lambda x: ratio(x.last["angle_rad"], x.last["equilibrium_rad"])
        ),
        "memory_share": criteria.memory_share(run),
        "fastest_over_slowest": apart,
        "frozen_norms": criteria.most_frozen(run),
        "all_norm": finite_median(every.column("norm")[end:]),
        "all_angle_rad": finite_median(every.column("angle_rad")[end:]),
    }
