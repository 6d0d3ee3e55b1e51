"""Trials and studies of the digits task that several test files use."""

import json

from tangential_lab.studies import StudyRequest, make_plan
from tangential_lab.studies.storage.store import Store
from tangential_lab.training import (
    OPTIMIZERS,
    Spec,
)
from tangential_lab.training.trial import Trial, TrialOptions

TIMED = {"seconds", "step_s", "optimizer_s", "provenance"}
POINT = (("lr", 0.02), ("weight_decay", 1e-3))
SPEC = Spec("adamp", "test", 1000, POINT)
INVARIANT = frozenset({"0.weight", "3.weight", "7.weight"})


def without_times(record):
    """A record without what a clock says."""
    scores = {k: v for k, v in record["scores"].items() if k != "time_s"}
    return json.dumps({k: v for k, v in record.items() if k not in TIMED} | {"scores": scores})


def trained(task, spec=SPEC, **run):
    options = {"evaluations": 3, "layers": True, **run}
    return Trial(
        task, OPTIMIZERS[spec.optimizer], spec, TrialOptions(2, INVARIANT, **options)
    ).train()


def study_request(**changes):
    usual = StudyRequest(
        *("digits", {}, ("sgdp", "adamp"), {}, 2, 2, 1, False),
        *("no", 1, False),
    )
    return usual._replace(**changes)


def begun(url, task, **changes):
    plan = make_plan(study_request(**changes), task)
    store = Store(url, "s")
    store.begin(plan)
    return store, plan
