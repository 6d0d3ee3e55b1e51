"""Optuna's trials: which of several equal trials counts, and which worker may write to it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tangential_lab.studies.plan import Plan
from tangential_lab.studies.search import optuna
from tangential_lab.training import Spec

FrozenTrial = Any  # optuna.trial.FrozenTrial


class ClaimedTrial(NamedTuple):
    """A trial that this process runs."""

    id: int
    key: str
    spec: Spec


class ClaimLostError(Exception):
    """The trial was given to another worker, because this one seemed to be dead."""


@contextmanager
def claim_checked() -> Iterator[None]:
    """Turns Optuna's error about a finished trial into ClaimLostError."""
    try:
        yield
    except optuna().exceptions.UpdateFinishedTrialError as error:
        raise ClaimLostError from error


def waiting_trial(plan: Plan, key: str, spec: Spec) -> FrozenTrial:
    """A trial of this spec for Optuna to queue."""
    space = plan.optimizers[spec.optimizer].space
    axis = optuna().distributions.FloatDistribution
    params = {k: v for k, v in spec.point if k in space and space[k][0] <= v <= space[k][1]}
    return optuna().trial.create_trial(
        state=optuna().trial.TrialState.WAITING,
        params=params,
        distributions={k: axis(*space[k], log=True) for k in params},
        user_attrs={
            "key": key,
            "optimizer": spec.optimizer,
            "phase": spec.phase,
            "seed": spec.seed,
        },
    )


def oldest_by_key(trials: Iterable[FrozenTrial], *states: str) -> dict[str, FrozenTrial]:
    """For every key, the oldest trial in one of these states."""
    oldest = {}
    for trial in trials:
        if trial.state.name in states:
            oldest.setdefault(trial.user_attrs["key"], trial)
    return oldest
