"""What to change after a verdict, with the numbers that say so."""

import math
from collections.abc import Callable

from tangential.monitor.diagnosis.runs import Run
from tangential.monitor.diagnosis.wording import Verdict, counted, multiple, percent
from tangential.names import listed


def advice(verdict: Verdict, run: Run) -> str:
    """What to change in a run because of a verdict on it; "" if there is nothing to change.

    >>> from tangential.monitor.diagnosis.runs import load
    >>> run = load([{"step": step, "label": "all", "frozen_norms": 2.0} for step in (0, 50)])
    >>> advice(Verdict("frozen normalisation", "", {"frozen_norms": 2.0}), run)
    'Call model.train() before training, unless these 2 normalisations are meant to be frozen.'
    """
    return ADVICE.get(verdict.kind, lambda *_: "")(verdict, run)


def _slowdown(verdict: Verdict, run: Run) -> str:
    share = verdict.numbers["memory_share"]
    cause = f": {percent(share)} of the growth comes from momentum" if share >= 0 else ""
    decay = _decay(run)
    other = f", or {decay}" if decay else ""
    return f"Project these weights (SGDP for SGD, AdamP for Adam){cause}{other}."


def _no_decay(verdict: Verdict, run: Run) -> str:
    decay = _decay(run)
    return f"If norms must not grow {multiple(verdict.numbers['norm_growth'])}-fold, {decay}."


def _decay(run: Run) -> str:
    """The weight decay at which lr × weight decay × steps is 1: the time constant of norms."""
    lr = run.median(lambda trend: trend.first["lr"])
    if not (lr > 0 and run.length):
        return "set a weight decay"
    return (
        f"set a weight decay of {1 / (lr * run.length):.2g} or more: then lr × weight decay × "
        f"{counted(run.length, 'step')} is 1, and norms have time to settle"
    )


def _weak_decay(verdict: Verdict, run: Run) -> str:
    over, more = (verdict.numbers[x] for x in ("angle_over_equilibrium", "steps_to_equilibrium"))
    if over > 1:  # the equilibrium angle is proportional to the root of the decay
        return (
            f"Multiply weight decay by {multiple(over**2)}: the angle of equilibrium grows with "
            f"its root, and would be that of the last logs, {verdict.numbers['angle_rad']:.2g} rad."
        )
    factor = 1 + more / max(run.length, 1)
    return f"Multiply weight decay by about {factor:.2g}, or train {counted(more, 'step')} longer."


def _wrong_projection(verdict: Verdict, run: Run) -> str:
    names = listed(verdict.numbers)
    groups = "param_groups(model, audit(model, batches)) does this"
    return f'Set projection="off" for {names}; {groups}.'


def _unequal(verdict: Verdict, run: Run) -> str:
    fast, slow = verdict.labels
    times = verdict.numbers["ratio"]
    return (
        f"Raise the lr of {slow} up to {multiple(times)} times, lower that of {fast}, or let "
        'tangential.radial\'s rule "rotational" turn all weights by the same angle.'
    )


def _frozen(verdict: Verdict, run: Run) -> str:
    count = verdict.numbers["frozen_norms"]
    these = "this normalisation is" if count == 1 else f"these {count:.0f} normalisations are"
    return f"Call model.train() before training, unless {these} meant to be frozen."


def _diverged(verdict: Verdict, run: Run) -> str:
    since = int(verdict.numbers["since_step"])
    lrs = [
        x
        for name in verdict.labels
        for step, x in zip(run.weights[name].steps, run.weights[name]["lr"], strict=True)
        if step <= since and math.isfinite(x)
    ]
    used = f" (up to {max(lrs):.3g} until then)" if lrs else ""
    return f"Lower lr{used}, and look at the batches before step {since:,}."


ADVICE: dict[str, Callable[[Verdict, Run], str]] = {
    "premature slowdown": _slowdown,
    "decay too weak": _weak_decay,
    "no equilibrium without decay": _no_decay,
    "projected but not invariant": _wrong_projection,
    "layers rotate unequally": _unequal,
    "frozen normalisation": _frozen,
    "not finite": _diverged,
}
