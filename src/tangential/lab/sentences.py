"""The verdict in words, made from numbers; none says more than its interval allows."""

import math
from typing import Literal, NamedTuple

from tangential.lab.plan import PHASES, Plan, Records
from tangential.lab.standings import Comparison, Row
from tangential.lab.statistics import Interval
from tangential.lab.task import Metric
from tangential.lab.wording import gap, listed, number, p_value, reach, score, span

Side = Literal["ahead", "behind", "even", "untold"]


def side(metric: Metric, against: Comparison) -> Side:
    """Where a rival stands: "even" if no difference is seen, "untold" at one seed."""
    found = against.difference
    if not found.known:
        return "untold"
    if found.covers(0):
        return "even"
    return "ahead" if metric.oriented(found.mean) > 0 else "behind"


# ---- the verdict


class Finding(NamedTuple):
    """What is said of a rival and its baseline."""

    rival: str
    baseline: str
    side: Side
    texts: list[str]  # the metric, the mechanism, the cost; the mechanism without decay


def findings(plan: Plan, rows: list[Row], undecayed: list[Row], target: float) -> list[Finding]:
    """Of every rival that has a baseline."""
    bare = {row.rival: row for row in undecayed if row.against}
    found = []
    for row in rows:
        if row.against:
            texts = [
                verdict(plan, row, rows),
                f"Mechanism: {mechanism(row, rows)}",
                f"Cost: {cost(plan, row, rows, target)}",
            ]
            if row.rival in bare:
                texts.append(without_decay(bare[row.rival], undecayed))
            at = side(plan.metric, row.against)
            found.append(Finding(row.rival, row.against.baseline, at, texts))
    return found


def headline(plan: Plan, rows: list[Row]) -> str:
    """All comparisons in a sentence."""
    sides: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.against:
            key = (side(plan.metric, row.against), row.against.baseline)
            sides.setdefault(key, []).append(row.rival)
    if not sides:
        return "Nothing is compared: no rival here has its baseline beside it."
    words = {
        "ahead": "{} {} ahead of {}",
        "behind": "{} {} behind {}",
        "even": "no difference from {1} is seen in {0}",
        "untold": "one seed cannot tell {} from {}",
    }
    parts = []
    for at in words:
        for (found, baseline), names in sides.items():
            if found == at:
                verb = ["are" if names[1:] else "is"] if at in ("ahead", "behind") else []
                parts.append(words[at].format(listed(names), *verb, baseline))
    return f"In {plan.metric.name}, {'; '.join(parts)}."


def verdict(plan: Plan, row: Row, rows: list[Row]) -> str:
    """What the metric says of a rival and its baseline."""
    metric, against = plan.metric, row.against
    assert against is not None
    words = {
        "ahead": f"{row.rival} is ahead of {against.baseline}",
        "behind": f"{row.rival} is behind {against.baseline}",
        "even": f"No difference seen between {row.rival} and {against.baseline}",
        "untold": f"One seed cannot tell {row.rival} from {against.baseline}",
    }[side(metric, against)]
    sign = "" if metric.higher else ", where lower is better"
    text = f"{words}: {metric.name} {gap(metric, against.difference.mean)}{sign}"
    return f"{text} ({_evidence(metric, against, rows)}).{_diverged(metric, row, rows)}"


def _evidence(metric: Metric, against: Comparison, rows: list[Row]) -> str:
    found = against.difference
    if not found.known:
        return "no interval"
    low, high = (gap(metric, end, unit=False) for end in (found.low, found.high))
    compared = sum(row.against is not None for row in rows)
    adjusted = f"p {p_value(against.p_holm)} by Holm" if compared > 1 else f"p {p_value(against.p)}"
    return f"{span(low, high)}; {found.n} paired seeds; P(better) {against.better:.2f}; {adjusted}"


def _diverged(metric: Metric, row: Row, rows: list[Row]) -> str:
    assert row.against is not None
    pair = [row, *(other for other in rows if other.rival == row.against.baseline)]
    told = [f"{r.diverged} of {r.seeds} seeds of {r.rival}" for r in pair if r.diverged]
    if not told:
        return ""
    return f" Diverged: {listed(told)}; each counts as {score(metric, metric.guess)}."


def mechanism(row: Row, rows: list[Row]) -> str:
    """What the update did to the weights, beside what the baseline's did."""
    against = row.against
    assert against is not None
    other = next(r for r in rows if r.rival == against.baseline)
    parts = [
        _times("final mean weight norm", against.norm, row.norm, other.norm),
        _times("mean effective step", against.effective_step, row.effective_step,
               other.effective_step),
    ]  # fmt: skip
    shares = row.memory_share.mean, other.memory_share.mean
    if all(map(math.isfinite, shares)):
        mine, theirs = (f"{100 * share:.0f} %" for share in shares)
        parts.append(f"momentum's memory makes {mine} of its norm growth, against {theirs}")
    return f"{row.rival} beside {against.baseline}: {'; '.join(parts)}."


def _times(what: str, ratio: Interval, mine: Interval, theirs: Interval, scale: float = 1) -> str:
    """A ratio with its interval, and the two means."""
    means = f"{number(scale * mine.mean)} against {number(scale * theirs.mean)}"
    if not ratio.n:
        return f"{what} not measured in both"
    times = f"{ratio.mean:.2f} times"
    if not ratio.known:
        return f"{what} {times} as large ({means}; one pair of seeds, no interval)"
    among = span(f"{ratio.low:.2f}", f"{ratio.high:.2f}")
    if ratio.covers(1):
        return f"no difference seen in {what} ({times}, {among}; {means})"
    return f"{what} {times} as large ({among}; {means})"


def without_decay(row: Row, rows: list[Row]) -> str:
    """The mechanism where rival and baseline have the same lr and no decay."""
    lr = row.point.get("lr")
    at = "At the same settings" if lr is None else f"At the same lr {lr:.3g}"
    return f"{at} without decay: {mechanism(row, rows)}"


def cost(plan: Plan, row: Row, rows: list[Row], target: float) -> str:
    """What a step costs beside the baseline's, and how far it is to the common target."""
    against = row.against
    assert against is not None
    other = next(r for r in rows if r.rival == against.baseline)
    step = _times("ms per step", against.step_s, row.step_s, other.step_s, 1000)
    text = f"{row.rival} beside {against.baseline}: {step}"
    if row.steps and row.seconds and other.steps and other.seconds:
        text += (
            f"; to {score(plan.metric, target)} it takes {reach(row.steps, 'steps')} and "
            f"{reach(row.seconds, 's')}, {against.baseline} {reach(other.steps, 'steps')} and "
            f"{reach(other.seconds, 's')}"
        )
    return f"{text}."


# ---- while it runs


def unfinished(plan: Plan, records: Records) -> str:
    """That there is no verdict yet."""
    return (
        f"{len(records)} of {plan.size} trials are done; no verdict before every rival has all "
        "its seeds."
    )


def progress(plan: Plan, records: Records) -> str:
    """How many trials there are of how many, phase by phase."""
    rivals = len(plan.rivals)
    sizes = {"tune": plan.trials, "report": plan.seeds, "undecayed": plan.seeds * plan.undecayed}
    done = {phase: sum(spec.phase == phase for spec in records) for phase in PHASES}
    parts = [f"{phase} {done[phase]} of {rivals * size}" for phase, size in sizes.items() if size]
    return f"Trials done: {', '.join(parts)}."
