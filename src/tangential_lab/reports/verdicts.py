"""Which optimizer is ahead: the rule, and sentences that claim no more than their interval."""

from typing import Literal

from tangential_lab.names import label
from tangential_lab.reports.rows import Comparison, Row
from tangential_lab.reports.wording import (
    capital,
    enumeration,
    gap,
    near_gap,
    p_value,
    score,
    span,
)
from tangential_lab.statistics import ALPHA, MIN_SEEDS
from tangential_lab.studies import Plan
from tangential_lab.training import Metric

Side = Literal["ahead", "behind", "leans ahead", "leans behind", "equal", "even", "unknown"]
EVEN = "no difference detected "
PHRASES: dict[Side, str] = {  # {0}: the optimizer, {1}: its baseline
    "ahead": "{0} is ahead of {1}",
    "behind": "{0} is behind {1}",
    "leans ahead": "{0} leans ahead of {1}",
    "leans behind": "{0} leans behind {1}",
    "equal": "{0} and {1} are equal within {margin}",
    "even": EVEN + "between {0} and {1}",
    "unknown": "one seed cannot tell {0} from {1}",
}


def side(metric: Metric, against: Comparison) -> Side:
    """Where an optimizer stands: "even" if no difference is detected, "unknown" with one seed.

    "ahead" and "behind" need MIN_SEEDS pairs, intervals that exclude 0, also for the runner-ups of
    the one that is behind, and a small p by Holm. "equal" needs a small p of equivalence by Holm.
    """
    difference = against.difference
    if not difference.known:
        return "unknown"
    few, rises = difference.n < MIN_SEEDS, difference.mean > 0
    differ = all(
        not interval.covers(0) and (interval.mean > 0) is rises
        for interval in (difference, *against.runner_ups)
    )
    if not (differ and (few or against.p_holm <= ALPHA)):
        return "equal" if against.p_equal_holm <= ALPHA and not few else "even"
    if metric.oriented(difference.mean) > 0:
        return "leans ahead" if few else "ahead"
    return "leans behind" if few else "behind"


def headline(plan: Plan, rows: list[Row]) -> str:
    """All comparisons in one sentence."""
    phrases: dict[Side, list[str]] = {}
    for row in rows:
        for against in row.comparisons:
            at = side(plan.metric, against)
            phrases.setdefault(at, []).append(_phrase(at, row, against, plan.metric))
    if not phrases:
        return "Nothing is compared: no optimizer here has its baseline in the study."
    if "even" in phrases:
        pairs = [phrase.removeprefix(EVEN) for phrase in phrases["even"]]
        phrases["even"] = [EVEN + enumeration(pairs)]
    parts = [phrase for at in PHRASES for phrase in phrases.get(at, [])]
    return f"{capital(plan.metric.name)}: {'; '.join(parts)}."


def verdict(plan: Plan, row: Row, other: Row) -> str:
    """What the metric says about an optimizer and one of its baselines."""
    metric, against = plan.metric, row.against(other.optimizer)
    assert against is not None
    at = side(metric, against)
    phrase = _phrase(at, row, against, metric)
    phrase = capital(phrase) if at in ("even", "unknown") else phrase  # others begin with a name
    text = f"{phrase}: {metric.name} {near_gap(metric, against.difference, unit=True)[0]}"
    more = [
        _detectable(at, metric, against),
        _runner_ups(metric, row, against),
        _diverged(metric, row, other),
    ]
    return " ".join([f"{text} ({_evidence(metric, against)}).", *filter(None, more)])


def _phrase(at: Side, row: Row, against: Comparison, metric: Metric) -> str:
    margin = gap(metric, metric.margin).removeprefix("+")
    return PHRASES[at].format(label(row.optimizer), label(against.baseline), margin=margin)


def _detectable(at: Side, metric: Metric, against: Comparison) -> str:
    """The smallest difference that would have been detected, if none was."""
    if at != "even":
        return ""
    least = gap(metric, against.detectable).removeprefix("+")
    return f"So many seeds show differences from about {least} on."


def _runner_ups(metric: Metric, row: Row, against: Comparison) -> str:
    """What the difference would be if the worse optimizer had chosen another point."""
    count = len(against.runner_ups)
    if not count:
        return ""
    ahead = metric.oriented(against.difference.mean) > 0
    worse = label(against.baseline if ahead else row.optimizer)
    others = "another point" if count == 1 else f"{count} others"
    closest = (min if ahead else max)(
        against.runner_ups, key=lambda interval: metric.oriented(interval.mean)
    )
    mean, low, high = near_gap(metric, closest, unit=True)
    return (
        f"{worse}'s tuning seeds cannot tell its best point from {others}; with the best of them "
        f"the difference is {mean} ({span(low, high)})."
    )


def _evidence(metric: Metric, against: Comparison) -> str:
    difference = against.difference
    parts = [] if metric.higher_is_better else ["lower is better"]
    if not difference.known:
        return "; ".join([*parts, "no interval"])
    _, low, high = near_gap(metric, difference)
    parts += [span(low, high), f"{difference.n} paired seeds", f"P(better) {against.better:.2f}"]
    if against.tested:
        by = " by Holm" if against.family > 1 else ""
        parts.append(f"p {p_value(against.p_holm)}{by}")
    return "; ".join(parts)


def _diverged(metric: Metric, row: Row, other: Row) -> str:
    counts = [
        f"{r.diverged} of {r.seeds} seeds of {label(r.optimizer)}"
        for r in (row, other)
        if r.diverged
    ]
    if not counts:
        return ""
    return f" Diverged: {enumeration(counts)}; each counts as {score(metric, metric.chance_score)}."
