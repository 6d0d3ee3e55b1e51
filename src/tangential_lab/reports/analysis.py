"""The sentences of an analysis: what momentum, projection and weight decay did to the weights."""

import math

from tangential_lab.names import label
from tangential_lab.reports import sentences
from tangential_lab.reports.rows import Row
from tangential_lab.reports.standings import comparable
from tangential_lab.reports.wording import enumeration, number
from tangential_lab.studies import LEAST_DECAY, Plan

PROJECTED = ("sgdp", "adamp")
NOTHING_INVARIANT = (
    "The audit proved no weight of this model scale-invariant: norms say nothing about effective "
    "steps here, so the analysis shows only scores."
)


def caveats(plan: Plan) -> list[str]:
    """What this analysis cannot show, known before it runs."""
    decays = [plan.decay_over_run(name, o.published) for name, o in plan.optimizers.items()]
    texts = [] if plan.invariant else [NOTHING_INVARIANT]
    if plan.undecayed and max(decays) < LEAST_DECAY:
        texts.append(
            "Weight decay does almost nothing in this run: without gradients, it would shorten the "
            f"weights by at most {number(-100 * math.expm1(-max(decays)))} %. A larger "
            "--weight-decay shows what it does."
        )
    return texts


def headline(rows: list[Row], undecayed: list[Row]) -> str:
    """How long the weights of every optimizer end, as a multiple of its baseline's; or ""."""
    bare = undecayed or rows
    parts = [_multiple(row, bare) for row in bare]
    text = "; ".join(filter(None, parts))
    return f"Weight norms at the end, without weight decay: {text}." if text else ""


def _multiple(row: Row, rows: list[Row]) -> str:
    against = next(iter(row.comparisons), None)
    if against is None or not against.norm.n:
        return ""
    other = next(r for r in rows if r.optimizer == against.baseline)
    if not comparable(row.point, other.point):
        return ""
    name, baseline, ratio = label(row.optimizer), label(other.optimizer), against.norm
    if ratio.known and ratio.covers(1):
        return f"no difference detected between {name} and {baseline}"
    return f"{name} {number(ratio.mean)} times {baseline}'s"


def mechanisms(plan: Plan, rows: list[Row], undecayed: list[Row]) -> list[str]:
    """What momentum and the projection did: one sentence for each optimizer with a baseline."""
    texts = {
        name: sentences.fair_mechanism(plan, name, baseline, rows, undecayed)
        for name, baseline in plan.comparisons
    }
    return [f"{_cause(name)}{text}" for name, text in texts.items() if text]


def _cause(optimizer: str) -> str:
    if optimizer == "sgd":  # against SGD without momentum
        return "Momentum. "
    return "Projection. " if optimizer.partition("-")[0] in PROJECTED else ""


def decay_effect(rows: list[Row], undecayed: list[Row]) -> str:
    """How long the weights end with weight decay, as multiples of those without; or ""."""
    bare = {row.optimizer: row for row in undecayed}
    multiples = [
        f"{number(row.norm.mean / other.norm.mean)} ({label(row.optimizer)})"
        for row in rows
        if (other := bare.get(row.optimizer)) and row.norm.n and other.norm.n
        and row.point.get("lr") == other.point.get("lr")
    ]  # fmt: skip
    if not multiples:
        return ""
    return f"Weight decay. The weights end {enumeration(multiples)} times as long as without it."
