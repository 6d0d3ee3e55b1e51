"""What a monitor's logs say about a run: every criterion, and what could not be checked."""

from collections.abc import Iterator
from pathlib import Path

from tangential.monitor.columns import ratio
from tangential.monitor.diagnosis import criteria, runs
from tangential.monitor.diagnosis.runs import Rows, Run, finite_median, load
from tangential.monitor.diagnosis.wording import (
    Verdict,
    counted,
    fell,
    multiple,
    of_equilibrium,
)


def diagnose(run: "str | Path | Rows | Run") -> list[Verdict]:
    """Find what is wrong with how the weights of a run move.

    What can be wrong, with the thresholds: `tangential.monitor.diagnosis.criteria`. If nothing is,
    one verdict says what was checked. Another verdict says what could not be checked.

    Args:
        run: A monitor's CSV file, its folder of Parquet files, or rows as in `sinks.memory`.
            It should have rows for every weight.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: it was not written by a monitor, or is empty.

    >>> rows = [{"step": step, "label": "all", "frozen_norms": 2.0} for step in (0, 50)]
    >>> print(diagnose(rows)[0].text.partition(".")[0])
    Frozen normalisation: 2 normalisations used running statistics since step 0
    """
    run = run if isinstance(run, Run) else load(run)
    findings = [verdict for criterion in criteria.CRITERIA for verdict in criterion(run)]
    return [*(findings or [_sound(run)]), *_unchecked(run)]


def _sound(run: Run) -> Verdict:
    numbers = figures(run)
    sentences = {
        "slowdown": lambda x: f"the effective step per lr {fell(x)}",
        "angle_over_equilibrium": lambda x: f"the angle is {of_equilibrium(x)}",
        "fastest_over_slowest": lambda x: (
            "all weights turn equally far"
            if multiple(x) == "1.0"
            else f"the fastest weight turns {multiple(x)} times as far as the slowest"
        ),
    }
    parts = [say(x) for name, say in sentences.items() if (x := numbers[name]) == x]
    text = (
        f"Nothing wrong was found in steps {run.steps[0]:,} to {run.steps[-1]:,} "
        f"({counted(len(run.steps), 'log')})"
    )
    text += f": over {criteria.subject(run)} {', '.join(parts)}" if parts else ""
    if run.weights:
        text += f"; no sign of a wrong projection in {counted(len(run.weights), 'weight')}"
    return Verdict("sound", f"{text}; no frozen normalisation.", numbers, tuple(run.trends))


def _unchecked(run: Run) -> Iterator[Verdict]:
    """A verdict about what no criterion could check, and why."""
    if run.trends:
        return
    what = "slowdown, decay and rotation"  # these need scale-invariant weights
    if not run.weights:
        what += ", projections"
        why = "these need values for every weight, which a sink with weights=True logs"
    elif not run.invariant:
        reason = "the audit found none" if run.audited else "and the gate mostly fires on none"
        why = f"no weight is known to be scale-invariant, {reason}"
    else:
        why = (
            f"{runs.MIN_LOGS} logs are needed in which a scale-invariant weight turned, "
            f"{runs.WARM_UP} steps or more after the first log"
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
    end = -max(1, len(run.means.steps) // runs.SHARE)
    return {
        **last,
        "norm_growth": criteria.norm_growth(run),
        "slowdown": ratio(run.fall("effective_step"), run.fall("lr")),
        "angle_over_equilibrium": run.median(
            lambda x: ratio(x.last["angle_rad"], x.last["equilibrium_rad"])
        ),
        "memory_share": criteria.memory_share(run),
        "fastest_over_slowest": criteria.fastest_over_slowest(run),
        "frozen_norms": criteria.most_frozen(run),
        "all_norm": finite_median(run.means["norm"][end:]),
        "all_angle_rad": finite_median(run.means["angle_rad"][end:]),
    }
