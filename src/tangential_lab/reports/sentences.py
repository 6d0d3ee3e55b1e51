"""Texts of a report, except those about scores, which are in `verdicts`."""

import math
import shlex

from tangential_lab.names import label
from tangential_lab.reports.rows import Reach, Row
from tangential_lab.reports.standings import comparable
from tangential_lab.reports.wording import enumeration, near, number, score, share, span
from tangential_lab.statistics import Interval
from tangential_lab.studies import Plan, schedule, tuning
from tangential_lab.training import PHASE_NAMES, PHASES, Records

# ---- the mechanism


def fair_mechanism(
    plan: Plan, optimizer: str, baseline: str, rows: list[Row], undecayed: list[Row]
) -> str:
    """The sentence about the mechanism in trials that differ only in the update, or "".

    These are the trials without weight decay, or those at the best points if settings agree. Decay
    may act in another way under a baseline that is not the usual one: Adam's is coupled.
    """
    same_decay = plan.optimizers[optimizer].baseline == baseline
    for candidates, without_decay in ((undecayed, True), (rows, False)):
        by_name = {row.optimizer: row for row in candidates}
        row, other = by_name.get(optimizer), by_name.get(baseline)
        if row and other and row.against(baseline) and comparable(row.point, other.point):
            fair = same_decay or not row.point.get("weight_decay")
            if fair and (text := mechanism(row, other)):
                return f"{_settings(row, other, without_decay=without_decay)}: {text}"
    return ""


def unfair_mechanism(row: Row, other: Row) -> str:
    """Why norms at two best points are not compared; "" if they were not measured."""
    if not mechanism(row, other):
        return ""
    return f"Norms and effective steps are not compared: {_unequal(row, other)}."


def _unequal(row: Row, other: Row) -> str:
    names = f"{label(row.optimizer)} and {label(other.optimizer)}"
    if comparable(row.point, other.point):
        return f"the weight decays of {names} act in different ways"
    points = row.point, other.point
    if all(name in point for point in points for name in ("lr", "weight_decay")):
        a, b = (point["lr"] * point["weight_decay"] for point in points)
        if not math.isclose(a, b, rel_tol=1e-6):
            return f"lr × weight decay of {names} differs, {a:.2g} against {b:.2g}"
    return f"the settings of {names} differ"


def _settings(row: Row, other: Row, *, without_decay: bool) -> str:
    if without_decay:
        lr = row.point.get("lr")
        same = "At the same settings" if lr is None else f"At the same learning rate {lr:.3g}"
        return f"{same}, without weight decay"
    if row.point == other.point:
        return "At the same settings"
    return "At the same learning rate times weight decay"


def mechanism(row: Row, other: Row) -> str:
    """How the update changed the weights, compared with a baseline's update; or ""."""
    against = row.against(other.optimizer)
    assert against is not None
    name, baseline = label(row.optimizer), label(other.optimizer)
    shares = row.memory_share.mean, other.memory_share.mean
    known = all(map(math.isfinite, shares))
    parts = [
        _times(
            against.norm, row.norm, other.norm,
            f"{name}'s weights end {{}}× as long as {baseline}'s", "the final weight norm",
        ),
        _times(
            against.effective_step, row.effective_step, other.effective_step,
            f"{name}'s mean effective step is {{}}× {baseline}'s", "the mean effective step",
        ),
        f"momentum causes {share(shares[0])} of {name}'s norm growth and {share(shares[1])} "
        f"of {baseline}'s" if known else "",
    ]  # fmt: skip
    text = "; ".join(filter(None, parts))
    return f"{text}." if text else ""


def _times(
    ratio: Interval, value: Interval, other: Interval, words: str, what: str, unit: str = ""
) -> str:
    """A ratio with its interval and the two means; "" if it was not measured in both."""
    if not ratio.n:
        return ""
    means = f"{number(value.mean)} against {number(other.mean)}{unit}"
    times, low, high = near(ratio, digits=3)
    if not ratio.known:
        return f"{words.format(times)} ({means}; one pair of seeds, no interval)"
    ends = span(low or times, high or times)
    if ratio.covers(1):
        return f"no difference detected in {what} ({means}; ratio {times}, {ends})"
    return f"{words.format(times)} ({means}; {ends})"


# ---- the cost


def cost(plan: Plan, row: Row, other: Row, target: float) -> str:
    """The cost of a step relative to a baseline's, and the steps that both need to the target."""
    against = row.against(other.optimizer)
    assert against is not None
    name, baseline = label(row.optimizer), label(other.optimizer)
    times = _times(
        against.step_s, row.step_s.mapped(_ms), other.step_s.mapped(_ms),
        f"a step of {name} takes {{}}× as long as one of {baseline}", "the time of a step", " ms",
    )  # fmt: skip
    if times and against.step_s.known:
        times += "; the ratio is the geometric mean over seeds"
    goal = score(plan.metric, target)
    parts = [f"Cost: {times}."] if times else []
    parts += [
        f"{reached(label(r.optimizer), goal, r.steps, r.seconds)}."
        for r in (row, other)
        if r.steps and r.seconds
    ]
    return " ".join(parts)


def _ms(seconds: float) -> float:
    return 1000 * seconds


def reached(name: str, goal: str, steps: Reach, seconds: Reach) -> str:
    """How long an optimizer took to reach the target.

    >>> reached("SGD", "97 %", Reach(310.0, 5, 5, 300.0), Reach(3.9, 5, 5, 3.8))
    'SGD reached 97 % after 310 steps (3.90 s)'
    >>> reached("SGD", "97 %", Reach(480.0, 3, 5, 470.0), Reach(5.8, 3, 5, 5.7))
    '3 of 5 seeds of SGD reached 97 %; mean at least 480 steps (5.80 s)'
    """
    mean = f"{steps.mean:.0f}" if steps.mean == round(steps.mean) else number(steps.mean)
    length = f"{mean} steps ({number(seconds.mean)} s)"
    if steps.reached == steps.n:
        return f"{name} reached {goal} after {length}"
    if steps.reached:
        return (
            f"{steps.reached} of {steps.n} seeds of {name} reached {goal}; mean at least {length}"
        )
    return f"No seed of {name} reached {goal} within {length}"


# ---- the search


def untuned(plan: Plan, records: Records) -> str:
    """The optimizers whose search should be wider; "" if all searches were wide enough."""
    edges = tuning.at_edge(plan, records)
    kinds = {
        "lowest learning rate": [name for name, edge in edges.items() if edge.lower],
        "highest learning rate": [name for name, edge in edges.items() if edge.higher],
        "highest weight decay": [name for name, edge in edges.items() if edge.decays],
    }
    parts = [
        f"{enumeration([*map(label, names)])} did best at the {kind} tried"
        for kind, names in kinds.items()
        if names
    ]
    return f"At the edge, not tuned: {'; '.join(parts)}." if parts else ""


def uncompared(plan: Plan, rows: list[Row]) -> str:
    """The optimizers that cannot differ from others at their points; "" if there are none."""
    names = [row.optimizer for row in rows if not plan.can_differ(row.optimizer, row.point)]
    if not names:
        return ""
    return (
        f"Not compared: {enumeration([*map(label, names)])}, because weight decay, the only "
        "difference from another optimizer, does almost nothing at the best point."
    )


# ---- while the study runs


def unfinished(plan: Plan, records: Records) -> str:
    """The headline of a study without a verdict."""
    done, size = len(records), schedule.size(plan, records)
    return f"{done} of {size} trials are done; the verdict follows when all are."


def progress(plan: Plan, records: Records) -> str:
    """How many trials of each phase are done, of those that are known."""
    known = schedule.trials(plan, records)
    parts = []
    for phase in PHASES:
        of_phase = [spec for spec in known if spec.phase == phase]
        if of_phase:
            done = sum(spec in records for spec in of_phase)
            parts.append(f"{PHASE_NAMES[phase]} {done} of {len(of_phase)}")
    return f"Trials done: {', '.join(parts)}."


# ---- what to run next, as commands that can be copied


def next_steps(plan: Plan) -> dict[str, str]:
    """Commands after a sweep or an analysis, with the question that each answers."""
    audit = {
        "tangential audit torchvision:resnet50": "which weights of a model are scale-invariant"
    }
    if plan.sweep:
        return {
            _study_on_fresh_seeds(plan): "a verdict on fresh seeds",
            _command("analyse", plan): "norms, effective steps and scores over epochs",
            **audit,
            "tangential compare FILE.py:FUNCTION --sweep": "the same curves for your own task",
        }
    if plan.analysis:
        sweep = _command("compare", plan, "--sweep", "--trials", "9", "--seeds", "3")
        return {
            sweep: "scores over learning rates",
            **audit,
            "tangential analyse FILE.py:FUNCTION": "the same figure for your own task",
        }
    return {}


def _command(command: str, plan: Plan, *more: str) -> str:
    """A command on the task of a study, with its options and its length."""
    spelled = {True: "yes", False: "no"}
    options = [
        f"{name}={spelled[value] if isinstance(value, bool) else value}"
        for name, value in plan.options.items()
    ]
    words = ["tangential", command, plan.task, *(["--set", *options] if options else [])]
    return shlex.join([*words, "--epochs", f"{plan.epochs:g}", *more])


def _study_on_fresh_seeds(plan: Plan) -> str:
    """A study with test seeds, of the same task and optimizers as a sweep."""
    ours = [name for name, optimizer in plan.optimizers.items() if not optimizer.source]
    users = [f"{name}={o.source}" for name, o in plan.optimizers.items() if o.source]
    more = ["--optimizers", *ours, *(["--optimizer", *users] if users else [])]
    chosen = [f"{name}={b}" for name in plan.chosen_baselines for b in plan.baselines(name)]
    more += ["--baseline", *chosen] if chosen else []
    return _command("compare", plan, "--trials", "9", "--seeds", "8", *more)
