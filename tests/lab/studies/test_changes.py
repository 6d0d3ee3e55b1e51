"""What a changed study says about its earlier trials; how waiting for a database ends."""

import random
import time

import made_study as made
import pytest
from digits_study import begun
from optuna.exceptions import StorageInternalError

from tangential_lab.studies import study as running
from tangential_lab.studies import tuning
from tangential_lab.studies.changes import outdated

pytestmark = pytest.mark.usefixtures("one_thread")


def planned(**changes):
    return made.plan(("sgd", "sgdp"), trials=2, seeds=1, undecayed=False, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 7}, "epochs was 30, is 7"),
        ({"options": {"preset": "mini", "cutmix": True}}, "cutmix was None, is True"),
        ({"data": ["other digits", "1" * 64]}, "data was "),
        ({"settings": {"precision": "bf16", "threads": 2}}, "precision was no, is bf16; threads"),
        ({"settings": {"source": "b"}}, "the code of the task or of the laboratory"),
        ({"analysis": True}, "analysis was False, is True"),
    ],
)
def test_trials_that_stop_counting_are_named_with_the_reason(changes, words):
    plan = planned()
    records = made.finished(plan)
    text = outdated(plan, plan._replace(**changes), records)
    assert text.startswith(f"{len(records)} finished trials do not count any more, because ")
    assert words in text


def test_no_message_while_all_trials_count():
    plan = planned()
    records = made.finished(plan)
    more = plan._replace(seeds=9, undecayed=True)
    assert outdated(plan, more, records) == ""
    fewer = plan._replace(optimizers={"sgd": plan.optimizers["sgd"]})
    assert outdated(plan, fewer, records) == ""
    assert outdated(plan, plan._replace(epochs=7), {}) == ""


def test_the_code_of_a_users_optimizer_is_a_reason_for_its_trials_alone():
    theirs = {"mine": made.OPTIMIZERS["sgd"]._replace(source="mine.py:Mine", about="code 1")}
    plan = planned()._replace(optimizers=planned().optimizers | theirs)
    records = made.finished(plan)
    changed = plan.optimizers | {"mine": plan.optimizers["mine"]._replace(about="code 2")}
    text = outdated(plan, plan._replace(optimizers=changed), records)
    count = sum(spec.optimizer == "mine" for spec in records)
    assert text.startswith(f"{count} finished trials do not count")
    assert "the study has changed: the code of mine. They" in text


@pytest.mark.slow
def test_a_store_reports_that_a_changed_plan_begins(digits, tmp_path):
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    claim = store.claim(plan, tuning.tuning_trials(plan, {}))
    record = made.record(plan, claim.spec, random.Random(0), 0.5) | {"score": 0.5}
    store.finish(claim, record)
    assert store.begin(plan._replace(seeds=9)) == ""
    assert store.begin(plan._replace(epochs=7)).startswith("1 finished trial does not count")
    assert store.plan().epochs == 7
    store.close()


# ---- while the database is away


@pytest.fixture
def store(digits, tmp_path):
    made_store, _ = begun(f"sqlite:///{tmp_path}/s.db", digits)
    made_store.patience_s = 600
    yield made_store
    made_store.close()


def gone(*_, **__):
    raise StorageInternalError("the server is away")


@pytest.mark.slow
def test_a_retry_ends_soon_after_the_user_wants_to_stop(store):
    start = time.monotonic()
    store.stop = lambda: time.monotonic() > start + 1
    with pytest.raises(StorageInternalError):
        store.retry(gone)
    assert time.monotonic() < start + 10


def test_a_study_that_is_stopped_while_its_database_is_away_is_stopped_not_failed(
    store, monkeypatch
):
    class Stop:
        def __init__(self):
            self.start = time.monotonic()

        def is_set(self):
            return time.monotonic() > self.start + 1

    class NoPool:
        start = stop_workers = ended = lambda *_: []

    monkeypatch.setattr(running, "WorkerPool", lambda *_: NoPool())
    plan = store.plan()
    snapshots = running.run_study(store, plan, None, 1, Stop(), print)
    next(snapshots)
    monkeypatch.setattr(store.storage, "get_all_trials", gone)
    with pytest.raises(KeyboardInterrupt):
        list(snapshots)
