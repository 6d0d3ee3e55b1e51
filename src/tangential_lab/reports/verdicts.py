"""Which optimizer is ahead: the rule, and sentences that claim no more than their interval."""

from typing import Literal

from tangential_lab.names import label
from tangential_lab.reports.standings import Comparison, Row
from tangential_lab.reports.statistics import ALPHA, MIN_SEEDS
from tangential_lab.reports.wording import capital, enumeration, gap, p_value, score, span
from tangential_lab.studies import Plan
from tangential_lab.training import Metric

Side = Literal["ahead", "behind", "leans ahead", "leans behind", "even", "unknown"]
EVEN = "no difference detected "
PHRASES: dict[Side, str] = {  # {0}: the optimizer, {1}: its baseline
    "ahead": "{0} is ahead of {1}",
    "behind": "{0} is behind {1}",
    "leans ahead": "{0} leans ahead of {1}",
    "leans behind": "{0} leans behind {1}",
    "even": EVEN + "between {0} and {1}",
    "unknown": "one seed cannot tell {0} from {1}",
}


def side(metric: Metric, against: Comparison) -> Side:
    """Where an optimizer stands: "even" if no difference is detected, "unknown" with one seed.

    The interval must exclude 0; with MIN_SEEDS pairs or more, Holm's p must be small, too.
    """
    difference = against.difference
    if not difference.known:
        return "unknown"
    few = difference.n < MIN_SEEDS
    if difference.covers(0) or not (few or against.p_holm <= ALPHA):
        return "even"
    if metric.oriented(difference.mean) > 0:
        return "leans ahead" if few else "ahead"
    return "leans behind" if few else "behind"


def headline(plan: Plan, rows: list[Row]) -> str:
    """All comparisons in one sentence."""
    phrases: dict[Side, list[str]] = {}
    for row in rows:
        if row.against:
            at = side(plan.metric, row.against)
            phrases.setdefault(at, []).append(_phrase(at, row.optimizer, row.against.baseline))
    if not phrases:
        return "Nothing is compared: no optimizer here has its baseline in the study."
    if "even" in phrases:
        pairs = [phrase.removeprefix(EVEN) for phrase in phrases["even"]]
        phrases["even"] = [EVEN + enumeration(pairs)]
    parts = [phrase for at in PHRASES for phrase in phrases.get(at, [])]
    return f"{capital(plan.metric.name)}: {'; '.join(parts)}."


def verdict(plan: Plan, row: Row, rows: list[Row]) -> str:
    """What the metric says about an optimizer and its baseline."""
    metric, against = plan.metric, row.against
    assert against is not None
    at = side(metric, against)
    phrase = _phrase(at, row.optimizer, against.baseline)
    phrase = capital(phrase) if at in ("even", "unknown") else phrase  # others begin with a name
    text = f"{phrase}: {metric.name} {gap(metric, against.difference.mean)}"
    return f"{text} ({_evidence(metric, against)}).{_diverged(metric, row, rows)}"


def _phrase(at: Side, optimizer: str, baseline: str) -> str:
    return PHRASES[at].format(label(optimizer), label(baseline))


def _evidence(metric: Metric, against: Comparison) -> str:
    difference = against.difference
    parts = [] if metric.higher_is_better else ["lower is better"]
    if not difference.known:
        return "; ".join([*parts, "no interval"])
    low, high = (gap(metric, end, unit=False) for end in (difference.low, difference.high))
    parts += [span(low, high), f"{difference.n} paired seeds", f"P(better) {against.better:.2f}"]
    if against.tested:
        by = " by Holm" if against.family > 1 else ""
        parts.append(f"p {p_value(against.p_holm)}{by}")
    return "; ".join(parts)


def _diverged(metric: Metric, row: Row, rows: list[Row]) -> str:
    assert row.against is not None
    pair = [row, *(other for other in rows if other.optimizer == row.against.baseline)]
    counts = [
        f"{r.diverged} of {r.seeds} seeds of {label(r.optimizer)}" for r in pair if r.diverged
    ]
    if not counts:
        return ""
    return f" Diverged: {enumeration(counts)}; each counts as {score(metric, metric.chance_score)}."
