"""The verdict in words, made from numbers; none says more than its interval allows."""

import math
from typing import Literal, NamedTuple

from tangential_lab.names import label
from tangential_lab.reports.standings import Comparison, Row, at_edge, comparable
from tangential_lab.reports.statistics import ALPHA, MIN_SEEDS, Interval
from tangential_lab.reports.wording import (
    capital,
    gap,
    listed,
    number,
    p_value,
    reach,
    score,
    share,
    span,
)
from tangential_lab.studies.plan import Plan
from tangential_lab.training.records import PHASES, Records
from tangential_lab.training.task import Metric

Side = Literal["ahead", "behind", "leans ahead", "leans behind", "even", "untold"]
EVEN = "no difference detected "
WORDS: dict[Side, str] = {  # {0}: the optimizer, {1}: its baseline
    "ahead": "{0} is ahead of {1}",
    "behind": "{0} is behind {1}",
    "leans ahead": "{0} leans ahead of {1}",
    "leans behind": "{0} leans behind {1}",
    "even": EVEN + "between {0} and {1}",
    "untold": "one seed cannot tell {0} from {1}",
}


def side(metric: Metric, against: Comparison) -> Side:
    """Where an optimizer stands: "even" if no difference is detected, "untold" at one seed.

    The interval must exclude 0, and from MIN_SEEDS pairs on Holm's p must be small, too.
    """
    found = against.difference
    if not found.known:
        return "untold"
    few = found.n < MIN_SEEDS
    if found.covers(0) or not (few or against.p_holm <= ALPHA):
        return "even"
    if metric.oriented(found.mean) > 0:
        return "leans ahead" if few else "ahead"
    return "leans behind" if few else "behind"


# ---- the verdict


class Finding(NamedTuple):
    """What is said of an optimizer and its baseline."""

    optimizer: str
    baseline: str
    side: Side
    verdict: str
    mechanism: str  # "" where their settings do not allow a comparison
    cost: str

    @property
    def texts(self) -> list[str]:
        """All that is said."""
        return [text for text in (self.verdict, self.mechanism, self.cost) if text]


def findings(plan: Plan, rows: list[Row], undecayed: list[Row], target: float) -> list[Finding]:
    """Of every optimizer that has a baseline."""
    return [
        Finding(
            optimizer=row.optimizer,
            baseline=row.against.baseline,
            side=side(plan.metric, row.against),
            verdict=verdict(plan, row, rows),
            mechanism=fair_mechanism(row.optimizer, rows, undecayed),
            cost=cost(plan, row, rows, target),
        )
        for row in rows
        if row.against
    ]


def headline(plan: Plan, rows: list[Row]) -> str:
    """All comparisons in a sentence."""
    said: dict[Side, list[str]] = {}
    for row in rows:
        if row.against:
            at = side(plan.metric, row.against)
            said.setdefault(at, []).append(_words(at, row.optimizer, row.against.baseline))
    if not said:
        return "Nothing is compared: no optimizer here has its baseline in the study."
    if "even" in said:
        said["even"] = [EVEN + listed([text.removeprefix(EVEN) for text in said["even"]])]
    parts = [text for at in WORDS for text in said.get(at, [])]
    return f"{capital(plan.metric.name)}: {'; '.join(parts)}."


def _words(at: Side, optimizer: str, baseline: str) -> str:
    return WORDS[at].format(label(optimizer), label(baseline))


def verdict(plan: Plan, row: Row, rows: list[Row]) -> str:
    """What the metric says of an optimizer and its baseline."""
    metric, against = plan.metric, row.against
    assert against is not None
    at = side(metric, against)
    words = _words(at, row.optimizer, against.baseline)
    words = capital(words) if at in ("even", "untold") else words  # others begin with a name
    text = f"{words}: {metric.name} {gap(metric, against.difference.mean)}"
    return f"{text} ({_evidence(metric, against)}).{_diverged(metric, row, rows)}"


def _evidence(metric: Metric, against: Comparison) -> str:
    found = against.difference
    parts = [] if metric.higher else ["lower is better"]
    if not found.known:
        return "; ".join([*parts, "no interval"])
    low, high = (gap(metric, end, unit=False) for end in (found.low, found.high))
    parts += [span(low, high), f"{found.n} paired seeds", f"P(better) {against.better:.2f}"]
    if against.tested:
        by = " by Holm" if against.family > 1 else ""
        parts.append(f"p {p_value(against.p_holm)}{by}")
    return "; ".join(parts)


def _diverged(metric: Metric, row: Row, rows: list[Row]) -> str:
    assert row.against is not None
    pair = [row, *(other for other in rows if other.optimizer == row.against.baseline)]
    told = [f"{r.diverged} of {r.seeds} seeds of {label(r.optimizer)}" for r in pair if r.diverged]
    if not told:
        return ""
    return f" Diverged: {listed(told)}; each counts as {score(metric, metric.guess)}."


# ---- the mechanism


def fair_mechanism(optimizer: str, rows: list[Row], undecayed: list[Row]) -> str:
    """The mechanism where only the update differs: without decay, else at best points if equal."""
    for some, without_decay in ((undecayed, True), (rows, False)):
        mine = next((row for row in some if row.optimizer == optimizer and row.against), None)
        if mine and mine.against:
            theirs = next(row for row in some if row.optimizer == mine.against.baseline)
            text = mechanism(mine, theirs) if comparable(mine.point, theirs.point) else ""
            if text:
                return f"{_at(mine, theirs, without_decay=without_decay)}: {text}"
    return ""


def _at(mine: Row, theirs: Row, *, without_decay: bool) -> str:
    if without_decay:
        lr = mine.point.get("lr")
        same = "At the same settings" if lr is None else f"At the same learning rate {lr:.3g}"
        return f"{same}, without weight decay"
    if mine.point == theirs.point:
        return "At the same settings"
    return "At the same learning rate times weight decay"


def mechanism(row: Row, other: Row) -> str:
    """What the update did to the weights, compared with what the baseline's did; or nothing."""
    against = row.against
    assert against is not None
    mine, theirs = label(row.optimizer), label(other.optimizer)
    shares = row.memory_share.mean, other.memory_share.mean
    known = all(map(math.isfinite, shares))
    parts = [
        _times(
            against.norm, row.norm, other.norm,
            f"{mine}'s weights end {{}}× as long as {theirs}'s", "the final weight norm",
        ),
        _times(
            against.effective_step, row.effective_step, other.effective_step,
            f"{mine}'s mean effective step is {{}}× {theirs}'s", "the mean effective step",
        ),
        f"momentum causes {share(shares[0])} of {mine}'s norm growth and {share(shares[1])} "
        f"of {theirs}'s" if known else "",
    ]  # fmt: skip
    text = "; ".join(filter(None, parts))
    return f"{text}." if text else ""


def _times(
    ratio: Interval, mine: Interval, theirs: Interval, words: str, what: str, unit: str = ""
) -> str:
    """A ratio with its interval and the two means; "" where it was not measured in both."""
    if not ratio.n:
        return ""
    means = f"{number(mine.mean)} against {number(theirs.mean)}{unit}"
    times = number(ratio.mean)
    if not ratio.known:
        return f"{words.format(times)} ({means}; one pair of seeds, no interval)"
    among = span(number(ratio.low), number(ratio.high))
    if ratio.covers(1):
        return f"no difference detected in {what} ({means}; ratio {times}, {among})"
    return f"{words.format(times)} ({means}; {among})"


# ---- the cost


def cost(plan: Plan, row: Row, rows: list[Row], target: float) -> str:
    """What a step costs compared with the baseline's, and how long each takes to the target."""
    against = row.against
    assert against is not None
    other = next(r for r in rows if r.optimizer == against.baseline)
    mine, theirs = label(row.optimizer), label(other.optimizer)
    times = _times(
        against.step_s, row.step_s.mapped(_ms), other.step_s.mapped(_ms),
        f"a step of {mine} takes {{}}× as long as one of {theirs}", "the time of a step", " ms",
    )  # fmt: skip
    parts = [times] if times else []
    if times and against.step_s.known:
        parts.append("the ratio of the times is the geometric mean of the seeds' ratios")
    if row.steps and row.seconds and other.steps and other.seconds:
        mine += f" takes {reach(row.steps, row.seconds)}"
        theirs += f" {reach(other.steps, other.seconds)}"
        parts.append(f"to reach {score(plan.metric, target)}, {mine}, {theirs}")
    return f"Cost: {'; '.join(parts)}." if parts else ""


def _ms(seconds: float) -> float:
    return 1000 * seconds


# ---- the search


def untuned(plan: Plan, records: Records) -> str:
    """Whose search should have been wider; "" if nobody's."""
    edges = at_edge(plan, records)
    only = [name for name in edges["lowest"] if name in edges["highest"]]
    sides = {side: [n for n in names if n not in only] for side, names in edges.items()}
    parts = [
        f"the {side} for {listed([*map(label, names)])}"
        for side, names in (sides | {"only one": only}).items()
        if names
    ]
    if not parts:
        return ""
    tried = "of the learning rates tried at a similar weight decay"
    return f"Not tuned: {tried}, the best is {listed(parts)}."


# ---- while it runs


def unfinished(plan: Plan, records: Records) -> str:
    """That there is no verdict yet."""
    return (
        f"{len(records)} of {plan.size} trials are done; no verdict before every optimizer has "
        "all its seeds."
    )


def progress(plan: Plan, records: Records) -> str:
    """How many trials there are of how many, phase by phase."""
    optimizers = len(plan.optimizers)
    sizes = {"tune": plan.trials, "test": plan.seeds, "undecayed": plan.seeds * plan.undecayed}
    done = {phase: sum(spec.phase == phase for spec in records) for phase in PHASES}
    parts = [
        f"{phase} {done[phase]} of {optimizers * size}" for phase, size in sizes.items() if size
    ]
    return f"Trials done: {', '.join(parts)}."
