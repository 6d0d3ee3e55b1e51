"""What can be wrong with how the weights of a run move: six criteria, with their thresholds.

The thresholds are our choice. Where a weight changes, the medians of its first and last tenth of
logs are compared, without the first steps (`runs.WARM_UP`), in which the averages of the optimizer
fill: Adam's first steps are several times longer than the later ones, momentum's shorter.
"""

import math
from collections.abc import Iterator

from tangential.monitor.motion import CLOSE
from tangential.monitor.runs import MOSTLY, WARM_UP, Columns, Log, Run, fired, middle, ratio
from tangential.monitor.verdicts import Verdict, counted, fell, fold, percent
from tangential.names import listed

SLOWDOWN = 2.0  # what the effective step has fallen more than lr
NORM_GROWTH = 2**0.5  # that halves the effective step of SGD, whose gradients shrink with it too
OFF = 1.5  # the angle over its equilibrium's, or the inverse: not near it
NEAR_LOGS = 0.1  # of the logs near equilibrium: it was reached, whatever lr did thereafter
BY_CHANCE = 0.5  # sqrt(elements) |cos(w, g)|: 1 of a scale-variant weight, less than 0.1 of others
ORTHOGONAL = 1e-5  # |cos(w, update)|: the update was projected
UNEQUAL = 5.0  # angle of the fastest weight over that of the slowest


def slowdown(run: Run) -> Iterator[Verdict]:
    """The effective step fell `SLOWDOWN` times more than lr, and norms grew `NORM_GROWTH`-fold.

    Without the second condition a run whose gradients vanish would be slowed down prematurely.
    """
    step, lr = (run.over(lambda x, c=c: x.fall(c)) for c in ("effective_step", "lr"))
    growth, memory = norm_growth(run), memory_share(run)
    if not (step >= SLOWDOWN * lr and growth >= NORM_GROWTH):
        return
    share = f"{percent(memory)} of norm growth is momentum's memory"
    text = (
        f"Premature slowdown: the effective step {fell(step)} since step {since(run):,} while lr "
        f"{fell(lr)}; norms grew {fold(growth)}"
        f"{f', {share}' if memory >= 0 else ''} (medians over {subject(run)})."
    )
    numbers = {"effective_step_fall": step, "lr_fall": lr, "norm_growth": growth}
    yield Verdict("premature slowdown", text, {**numbers, "memory_share": memory}, labels(run))


def weak_decay(run: Run) -> Iterator[Verdict]:
    """At least half of the weights end `OFF` equilibrium, and further from it than the run is long.

    Those that were near it for `NEAR_LOGS` of the logs are left out: where lr falls, the angle of
    equilibrium falls sooner than norms can follow.
    """
    decayed = {k: x for k, x in run.courses.items() if x.last["equilibrium_rad"] > 0}
    off = {k: x for k, x in decayed.items() if _never_near(run, k, x.last)}
    if not off or len(off) < len(decayed) / 2:
        return
    last = {
        name: middle(x.last[name] for x in off.values())
        for name in ("angle_rad", "equilibrium_rad", "steps_to_equilibrium")
    }
    over = middle(x.last["angle_rad"] / x.last["equilibrium_rad"] for x in off.values())
    text = (
        f"Decay is too weak to reach equilibrium in this run: after {counted(length(run), 'step')} "
        f"the angle per step is {over:,.2g} times that of equilibrium ({last['angle_rad']:.2g} "
        f"against {last['equilibrium_rad']:.2g} rad, medians over {len(off)} of "
        f"{subject(run, len(decayed))} with decay); at the last lr another "
        f"{counted(last['steps_to_equilibrium'], 'step')} would be needed."
    )
    numbers = {"angle_over_equilibrium": over, **last, "steps": float(length(run))}
    yield Verdict("decay too weak", text, numbers, tuple(off))


def _never_near(run: Run, name: str, last: Columns) -> bool:
    log = run.weights[name]
    rows = zip(log.steps, log.column("angle_rad"), log.column("equilibrium_rad"), strict=True)
    warm = run.steps[0] + WARM_UP
    ratios = [angle / balance for step, angle, balance in rows if balance > 0 and step >= warm]
    reached = sum(not _off(x) for x in ratios) >= NEAR_LOGS * len(ratios)
    ends_off = _off(last["angle_rad"] / last["equilibrium_rad"])
    return not reached and ends_off and last["steps_to_equilibrium"] > length(run)


def _off(ratio: float) -> bool:
    return not 1 / OFF < ratio < OFF


def no_decay(run: Run) -> Iterator[Verdict]:
    """No decay is known of, and norms grew by more than what equilibria are told apart by."""
    free = {k: x for k, x in run.courses.items() if not x.last["equilibrium_rad"] > 0}
    growth = middle(ratio(1, x.fall("norm")) for x in free.values())
    if not growth > 1 + CLOSE:
        return
    text = (
        f"There is no equilibrium to reach: the monitor knows of no decay that would shrink "
        f"{subject(run, len(free))}; norms grew {fold(growth)} since step {since(run):,} (median)."
    )
    yield Verdict("no equilibrium without decay", text, {"norm_growth": growth}, tuple(free))


def projected(run: Run) -> Iterator[Verdict]:
    """A weight was projected that is not scale-invariant.

    By an audit; without one, a weight on which the gate fires now and then while sqrt(elements)
    |cos(w, g)| is `BY_CHANCE` or more. Only logs count in which the update was orthogonal to the
    weight: the gate column of an optimizer that does not project says what another would have done.
    """
    shares = {name: _projected(run, name) for name in run.weights if name not in run.invariant}
    worst = {k: x for k, x in sorted(shares.items(), key=lambda item: -item[1]) if x > 0}
    if not worst:
        return
    described = listed(f"{k} in {percent(x)}" for k, x in worst.items())
    ground = "the audit has proved it of none of them"
    if not run.audited:
        ground = "the gate fires only now and then, and sqrt(n) |cos(w, g)| is of order 1"
    text = f"Projected but not scale-invariant, in % of logs: {described}; {ground}."
    yield Verdict("projected but not invariant", text, worst, tuple(worst))


def _projected(run: Run, name: str) -> float:
    """Share of logs; 0 of a weight that may be scale-invariant."""
    log = run.weights[name]
    cosine = middle(log.column("cosine"))
    if not run.audited and not (run.fired(name) <= MOSTLY and cosine >= BY_CHANCE):
        return 0.0
    columns = (log.column(x) for x in ("grad_norm", "growth_memory", "growth_step"))
    rows = zip(fired(log), *columns, strict=True)
    radial = [_radial(memory, step) for fires, g, memory, step in rows if fires and g > 0]
    return run.fired(name) if middle(radial) < ORTHOGONAL else 0.0


def _radial(memory: float, step: float) -> float:
    """|cos(w, update)|: the memory's growth is 2 w.e, the step's e.e, in shares of w.w."""
    return abs(memory) / (2 * math.sqrt(step)) if step > 0 else math.nan


def unequal(run: Run) -> Iterator[Verdict]:
    """In the last tenth of logs the fastest weight turns `UNEQUAL` times as far as the slowest."""
    if len(run.courses) < 2:
        return
    slow, fast = extremes(run)
    a, b = run.courses[fast].last, run.courses[slow].last
    apart = ratio(a["angle_rad"], b["angle_rad"])
    if not apart > UNEQUAL:
        return
    lrs = f", lr {a['lr']:.3g}", f", lr {b['lr']:.3g}"
    first, second = lrs if a["lr"] != b["lr"] else ("", "")
    text = (
        f"Layers rotate unequally: {fast} turns {fold(apart)} as far per step as {slow} "
        f"({a['angle_rad']:.2g} rad{first}, against {b['angle_rad']:.2g} rad{second}; medians over "
        f"the last tenth of logs)."
    )
    numbers = {"ratio": apart, "fastest_rad": a["angle_rad"], "slowest_rad": b["angle_rad"]}
    yield Verdict("layers rotate unequally", text, numbers, (fast, slow))


def frozen(run: Run) -> Iterator[Verdict]:
    """Normalisations that worked by their running statistics, and when."""
    spans: dict[str, list[str]] = {}
    for name, steps in run.frozen.items():
        spans.setdefault(_span(run, steps), []).append(name)
    for span, names in spans.items():
        text = (
            f"Frozen normalisation: {listed(names)} worked by running statistics {span}, which "
            "does not make the weights before it scale-invariant."
        )
        first = run.frozen[names[0]][0]
        numbers = {"frozen_norms": float(len(names)), "since_step": float(first)}
        yield Verdict("frozen normalisation", text, numbers, tuple(names))
    log = run.logs.get("all", Log())
    counts = {s: x for s, x in zip(log.steps, log.column("frozen_norms"), strict=True) if x > 0}
    if counts and not run.frozen:
        text = (
            f"Frozen normalisation: {counted(max(counts.values()), 'normalisation')} worked by "
            f"running statistics {_span(run, list(counts))}; which, a sink with weights=True says."
        )
        numbers = {"frozen_norms": max(counts.values()), "since_step": float(min(counts))}
        yield Verdict("frozen normalisation", text, numbers)


def _span(run: Run, steps: list[int]) -> str:
    begin, end = steps[0], steps[-1]
    gaps = len([step for step in run.steps if begin <= step <= end]) > len(steps)
    if end == run.steps[-1] and not gaps:
        return f"since step {begin:,}"
    return f"in {counted(len(steps), 'log')} from step {begin:,} to {end:,}"


# ---- of the scale-invariant weights


def labels(run: Run) -> tuple[str, ...]:
    """Those that the medians are over."""
    return tuple(run.courses)


def subject(run: Run, count: int | None = None) -> str:
    """How many, by default all, and by what they are known."""
    number = len(run.courses) if count is None else count
    if run.audited:
        return counted(number, "scale-invariant weight")
    return counted(number, "weight") + " on which the gate mostly fires"


def since(run: Run) -> int:
    """The step from which they are looked at."""
    return min(course.since for course in run.courses.values())


def length(run: Run) -> int:
    """Steps from the first to the last log."""
    return run.steps[-1] - run.steps[0]


def norm_growth(run: Run) -> float:
    """Last norm over the first, median."""
    return run.over(lambda course: ratio(1, course.fall("norm")))


def memory_share(run: Run) -> float:
    """Momentum's memory's share of what lengthens them, over all logs; NaN without growth."""
    logs = [run.weights[name] for name in run.courses]
    memory, step = (
        sum(x for log in logs for x in log.column(name) if math.isfinite(x))
        for name in ("growth_memory", "growth_step")
    )
    return memory / (memory + step) if memory + step > 0 else math.nan


def extremes(run: Run) -> tuple[str, str]:
    """The slowest and the fastest in the last tenth of logs."""
    by_angle = sorted(run.courses, key=lambda name: run.courses[name].last["angle_rad"])
    return by_angle[0], by_angle[-1]
