"""What can be wrong with how the weights of a run move: a list of criteria, with their thresholds.

The thresholds are our choice. A change is judged by the medians of the first and the last tenth of
logs. The first steps (`runs.WARM_UP`) are left out: while the optimizer's averages warm up, steps
are longer (Adam) or shorter (momentum) than later.
"""

import math
from collections.abc import Iterator

from tangential.monitor.columns import ratio
from tangential.monitor.diagnosis.runs import MOSTLY, WARM_UP, Log, Run, finite_median
from tangential.monitor.diagnosis.wording import (
    Verdict,
    counted,
    fell,
    grew,
    multiple,
    of_equilibrium,
    percent,
)
from tangential.monitor.motion import CLOSE
from tangential.names import listed

SLOWDOWN = 2.0  # how much further the effective step has fallen than lr
NORM_GROWTH = 2**0.5  # halves the effective step of SGD, whose gradients shrink with it too
OFF = 1.5  # a ratio of angle to equilibrium angle beyond this, or its inverse, is not near
NEAR_LOGS = 0.1  # share of logs near equilibrium that shows that it was reached
BY_CHANCE = 0.5  # sqrt(elements) |cos(w, g)|: 1 for a scale-variant weight, below 0.1 for others
ORTHOGONAL = 1e-5  # |cos(w, update)|: the update was projected
UNEQUAL = 5.0  # angle of the fastest weight over that of the slowest


def slowdown(run: Run) -> Iterator[Verdict]:
    """The effective step fell `SLOWDOWN` times more than lr, and norms grew `NORM_GROWTH`-fold.

    The second condition excludes runs whose gradients vanish.
    """
    step, lr = run.fall("effective_step"), run.fall("lr")
    growth, memory = norm_growth(run), memory_share(run)
    if step >= SLOWDOWN * lr and growth >= NORM_GROWTH:
        cause = f", {percent(memory)} of it caused by momentum" if memory >= 0 else ""
        text = (
            f"Premature slowdown: the effective step {fell(step)} since step {run.since:,} while "
            f"lr {fell(lr)}; norms {grew(growth)}{cause} (medians over {subject(run)})."
        )
        numbers = {"effective_step_fall": step, "lr_fall": lr, "norm_growth": growth}
        numbers["memory_share"] = memory
        yield Verdict("premature slowdown", text, numbers, tuple(run.trends))


def weak_decay(run: Run) -> Iterator[Verdict]:
    """Half of the weights or more end away from equilibrium, and need more steps than the run had.

    Weights that were near it in `NEAR_LOGS` of the logs are left out: when lr falls, the angle of
    equilibrium falls faster than norms can follow.
    """
    decayed = {k: x.last for k, x in run.trends.items() if x.last["equilibrium_rad"] > 0}
    off = {
        name: last
        for name, last in decayed.items()
        if _is_off(last["angle_rad"] / last["equilibrium_rad"])
        and last["steps_to_equilibrium"] > run.length
        and not _was_near_equilibrium(run, name)
    }
    if not off or len(off) < len(decayed) / 2:
        return
    columns = ("angle_rad", "equilibrium_rad", "steps_to_equilibrium")
    medians = {name: finite_median(last[name] for last in off.values()) for name in columns}
    over = finite_median(last["angle_rad"] / last["equilibrium_rad"] for last in off.values())
    text = (
        f"Decay is too weak to reach equilibrium in this run: after {counted(run.length, 'step')} "
        f"the angle per step is {of_equilibrium(over)} ({medians['angle_rad']:.2g} "
        f"against {medians['equilibrium_rad']:.2g} rad, medians over {len(off)} of "
        f"{subject(run, len(decayed))} with decay); at the last lr another "
        f"{counted(medians['steps_to_equilibrium'], 'step')} would be needed."
    )
    numbers = {"angle_over_equilibrium": over, **medians, "steps": float(run.length)}
    yield Verdict("decay too weak", text, numbers, tuple(off))


def _was_near_equilibrium(run: Run, name: str) -> bool:
    log = run.weights[name]
    rows = zip(log.steps, log["angle_rad"], log["equilibrium_rad"], strict=True)
    begin = run.steps[0] + WARM_UP
    ratios = [angle / target for step, angle, target in rows if target > 0 and step >= begin]
    return sum(not _is_off(x) for x in ratios) >= NEAR_LOGS * len(ratios)


def _is_off(ratio: float) -> bool:
    return not 1 / OFF < ratio < OFF


def no_decay(run: Run) -> Iterator[Verdict]:
    """No weight decay shrinks the weights, and their norms grew noticeably."""
    free = {k: x for k, x in run.trends.items() if not x.last["equilibrium_rad"] > 0}
    growth = finite_median(ratio(1, x.fall("norm")) for x in free.values())
    if growth > 1 + CLOSE:
        text = (
            f"There is no equilibrium to reach: the monitor knows of no decay that would shrink "
            f"{subject(run, len(free))}; norms {grew(growth)} since step {run.since:,} "
            "(median)."
        )
        numbers = {"norm_growth": growth}
        yield Verdict("no equilibrium without decay", text, numbers, tuple(free))


def wrong_projection(run: Run) -> Iterator[Verdict]:
    """A weight that is not scale-invariant was projected.

    An audit says which weights are not. Without an audit, a weight is not if the gate fires only in
    some logs and sqrt(elements) |cos(w, g)| is `BY_CHANCE` or more. The updates must be orthogonal
    to the weight: for other optimizers, the gate columns only say what AdamP would have done.
    """
    others = {name: log for name, log in run.weights.items() if name not in run.invariant}
    shares = {name: _projected_share(run, log) for name, log in others.items()}
    worst = {k: x for k, x in sorted(shares.items(), key=lambda item: -item[1]) if x > 0}
    if worst:
        described = listed(f"{name} in {percent(share)} of logs" for name, share in worst.items())
        reason = "by the audit, none of them is"
        if not run.audited:
            reason = "the gate fires only now and then, and sqrt(n) |cos(w, g)| is of order 1"
        text = f"Projected but not scale-invariant: {described}; {reason}."
        yield Verdict("projected but not invariant", text, worst, tuple(worst))


def _projected_share(run: Run, log: Log) -> float:
    """Share of logs with a projection; 0 for a weight that may be scale-invariant."""
    share = log.fired_share
    flickers = share <= MOSTLY and finite_median(log["cosine"]) >= BY_CHANCE
    if not (run.audited or flickers):
        return 0.0
    columns = (log[name] for name in ("grad_norm", "growth_memory", "growth_step"))
    # |cos(w, update e)|: the memory's growth is 2 w.e, the step's e.e, both as shares of w.w
    radial = (
        abs(memory) / (2 * math.sqrt(step))
        for fires, grad_norm, memory, step in zip(log.fired(), *columns, strict=True)
        if fires and grad_norm > 0 and step > 0
    )
    return share if finite_median(radial) < ORTHOGONAL else 0.0


def unequal(run: Run) -> Iterator[Verdict]:
    """In the last tenth of logs the fastest weight turns `UNEQUAL` times as far as the slowest."""
    apart = fastest_over_slowest(run)
    if apart > UNEQUAL:
        last = {name: trend.last for name, trend in run.trends.items()}
        slow, *_, fast = sorted(last, key=lambda name: last[name]["angle_rad"])
        a, b = last[fast], last[slow]
        lrs = (f", lr {a['lr']:.3g}", f", lr {b['lr']:.3g}") if a["lr"] != b["lr"] else ("", "")
        text = (
            f"Layers rotate unequally: {fast} turns {multiple(apart)} times as far per step as "
            f"{slow} ({a['angle_rad']:.2g} rad{lrs[0]}, against {b['angle_rad']:.2g} rad{lrs[1]}; "
            "medians over the last tenth of logs)."
        )
        numbers = {"ratio": apart, "fastest_rad": a["angle_rad"], "slowest_rad": b["angle_rad"]}
        yield Verdict("layers rotate unequally", text, numbers, (fast, slow))


def frozen(run: Run) -> Iterator[Verdict]:
    """Normalisations that used running statistics, and when."""
    names: dict[tuple[int, str], list[str]] = {}  # by their first step, and when
    for name, log in run.logs.items():
        if steps := log.steps_where("frozen", lambda x: x > 0):
            names.setdefault((steps[0], _span(run, steps)), []).append(name)
    for (since, span), group in names.items():
        end = f"{span}, which does not make the weights before it scale-invariant."
        yield _frozen(listed(group), end, len(group), since, group)
    steps, most = run.means.steps_where("frozen_norms", lambda x: x > 0), most_frozen(run)
    if steps and not names:
        end = f"{_span(run, steps)}. A sink with weights=True names them."
        yield _frozen(counted(most, "normalisation"), end, most, steps[0], [])


def _frozen(who: str, end: str, count: float, since: int, names: list[str]) -> Verdict:
    text = f"Frozen normalisation: {who} used running statistics {end}"
    numbers = {"frozen_norms": float(count), "since_step": float(since)}
    return Verdict("frozen normalisation", text, numbers, tuple(names))


def _span(run: Run, steps: list[int]) -> str:
    begin, end = steps[0], steps[-1]
    gaps = len([step for step in run.steps if begin <= step <= end]) > len(steps)
    if end == run.steps[-1] and not gaps:
        return f"since step {begin:,}"
    return f"in {counted(len(steps), 'log')} from step {begin:,} to {end:,}"


def diverged(run: Run) -> Iterator[Verdict]:
    """Weights whose norm is not finite at some step."""
    steps = {name: log.steps_where("norm", math.isinf) for name, log in run.weights.items()}
    names = [name for name, at in steps.items() if at]
    if names:
        first = min(steps[name][0] for name in names)
        text = (
            f"Norms are not finite since step {first:,}: {listed(names)}; medians leave them out."
        )
        yield Verdict("not finite", text, {"since_step": float(first)}, tuple(names))


CRITERIA = (slowdown, weak_decay, no_decay, wrong_projection, unequal, frozen, diverged)


# ---- about the scale-invariant weights


def subject(run: Run, count: int | None = None) -> str:
    """The subject of a verdict: how many weights (by default all), and why they count."""
    number = len(run.trends) if count is None else count
    if run.audited:
        return counted(number, "scale-invariant weight")
    return counted(number, "weight") + " on which the gate mostly fires"


def norm_growth(run: Run) -> float:
    """The median ratio of the last norm to the first."""
    return run.median(lambda trend: ratio(1, trend.fall("norm")))


def memory_share(run: Run) -> float:
    """The share of momentum's memory in the norms' growth, over all logs; NaN without growth."""
    logs = [run.weights[name] for name in run.trends]
    memory, step = (
        sum(x for log in logs for x in log[name] if math.isfinite(x))
        for name in ("growth_memory", "growth_step")
    )
    return memory / (memory + step) if memory + step > 0 else math.nan


def fastest_over_slowest(run: Run) -> float:
    """The largest angle per step over the smallest, in the last tenth of logs; NaN if unknown."""
    angles = sorted(trend.last["angle_rad"] for trend in run.trends.values())
    return ratio(angles[-1], angles[0]) if len(angles) > 1 else math.nan


def most_frozen(run: Run) -> float:
    """The largest number of normalisations that were frozen at one step."""
    return max((x for x in run.means["frozen_norms"] if x > 0), default=0.0)
