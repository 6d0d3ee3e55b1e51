"""Workers that end too early, in any way: each is counted, named and replaced, a few times."""

import os
import signal
import sys
import time
import warnings
from contextlib import nullcontext

import pytest
from processes import call

from tangential_lab import experiments as tasks
from tangential_lab.studies import schedule, study
from tangential_lab.studies.storage.store import Store
from tangential_lab.studies.storage.trials import ClaimedTrial
from tangential_lab.studies.workers import pool, preflight
from tangential_lab.studies.workers.pool import StudyFailedError, WorkerPool
from tangential_lab.studies.workers.worker import (
    TrialFailedError,
    Worker,
    WorkerOptions,
    run_worker,
)
from tangential_lab.training import Spec


def _vanish(number, gpus, url, name, place, stop, share, messages):
    """What a worker process does in these tests, by the name of its study."""
    if name == "exits":
        sys.exit(0)
    if name == "exits at once":
        os._exit(0)
    if name == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "becomes another":
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
    if name == "sends an error":
        messages.send("words")
        time.sleep(600)
    while not stop.value:
        time.sleep(0.05)


class Stub:
    """What a pool of workers needs of a store."""

    url, retry = "", staticmethod(lambda act: act())
    undamaged = staticmethod(nullcontext)

    def __init__(self, name):
        self.name = name

    def run_by(self, pid):
        return "x's tuning trial of seed 0"


@pytest.fixture
def pool_of_one(monkeypatch):
    """A pool with one worker, which ends in the way that is the name of its study."""
    pools, said = [], []

    def make(name):
        monkeypatch.setattr(pool, "_worker", _vanish)
        workers = WorkerPool(Stub(name), WorkerOptions(None, None, 60.0), said.append)
        pools.append(workers)
        workers.start(1)
        return workers, said

    yield make
    for one in pools:
        one.kill()


def ended(workers):
    """The workers that have ended, as soon as there are any."""
    deadline = time.monotonic() + 120
    while not (results := workers.ended()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return results


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("exits", "exit status 0"),
        ("exits at once", "exit status 0"),
        ("is killed", "SIGKILL"),
        ("becomes another", "exec of another program"),
    ],
)
@pytest.mark.slow
def test_a_worker_that_ends_in_any_way_is_replaced_a_few_times(
    way, words, pool_of_one, monkeypatch
):
    monkeypatch.setattr(pool, "DEATHS", 1)
    workers, said = pool_of_one(way)
    workers.replace(ended(workers), 1)
    assert said == [
        f"A worker ended ({words}, in x's tuning trial of seed 0); another worker takes its trial."
    ]
    advice = "may be out of memory" if way == "is killed" else "such as an exit in an optimizer"
    with pytest.raises(
        StudyFailedError, match=rf"^2 workers ended too early, .* \({words}, in x's.*{advice}"
    ):
        workers.replace(ended(workers), 1)
    workers.stop_workers()


@pytest.mark.slow
def test_an_error_that_a_worker_sends_ends_the_study(pool_of_one):
    workers, _ = pool_of_one("sends an error")
    with pytest.raises(StudyFailedError, match="words"):
        ended(workers)


@pytest.mark.slow
def test_a_running_worker_has_not_ended(pool_of_one):
    workers, _ = pool_of_one("works")
    time.sleep(1)
    assert workers.ended() == []
    workers.stop_workers()
    assert [worker.process.exitcode for worker in workers.workers] == [0]


@pytest.mark.slow
def test_a_worker_that_becomes_another_program_is_killed(pool_of_one):
    workers, _ = pool_of_one("becomes another")
    workers.stop_workers()
    assert [worker.process.exitcode for worker in workers.workers] == [-signal.SIGKILL]


def test_a_worker_waits_for_its_database_as_long_as_a_running_study(monkeypatch):
    opened = []

    def opening(*arguments, create):
        opened.append((*arguments, create))
        return Stub("name")

    monkeypatch.setattr(pool, "Store", opening)
    monkeypatch.setattr(pool, "run_worker", lambda *arguments, **options: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    with warnings.catch_warnings():
        pool._worker(0, 0, "url", "name", WorkerOptions(None, None, 60.0), None, None, None)
    assert opened == [("url", "name", 300, False)]


# ---- in a study

CODE = """
import os, sys
from torch.optim import SGD

STEPS = 0

class Exits(SGD):
    def step(self, closure=None):
        global STEPS
        STEPS += 1
        if STEPS == 70:  # the trial runs before the study make at most 45
            os._exit(0)
        super().step()

def calls_exit(params, lr, weight_decay):
    optimizer = SGD(params, lr=lr)
    optimizer.register_step_pre_hook(lambda *_: sys.exit(0))
    return optimizer

def interrupted(params, lr, weight_decay):
    raise KeyboardInterrupt

def long_message(params, lr, weight_decay):
    raise ValueError("begin" + "x" * 3_000_000)
"""


@pytest.mark.slow
def test_a_study_whose_optimizer_ends_its_workers_ends(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    chosen = "--optimizers sgd --optimizer x=mine.py:Exits"
    command = f"compare digits {chosen} --trials 0 --seeds 1 --epochs 8"
    status, out, err = call(capsys, *command.split(), "--workers", "1")
    text = " ".join((out + err).split())  # lines are wrapped at words
    assert status == 1, text
    said = (
        "A worker ended (exit status 0, in x's test trial of seed 1000); another worker takes its"
    )
    assert text.count(said) == 3
    assert "Stopped: 4 workers ended too early, the last one (exit status 0, in x's test" in text
    assert "Finished trials are kept" in text
    assert "Traceback" not in text
    store = Store(f"sqlite:///{tmp_path}/runs/digits/study.db", "digits")
    assert [spec.optimizer for spec in store.records(store.plan())] == ["sgd"]
    store.close()


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A study of one of the user's optimizers, which the preflight has not tested."""
    task = tasks.make("digits", None, {})
    (tmp_path / "mine.py").write_text(CODE)

    def make(factory, reasons=None):
        monkeypatch.setattr(preflight, "unresumable", lambda request: reasons or {})
        request = study.StudyRequest(
            *("digits", {}, (), {"x": f"{tmp_path}/mine.py:{factory}"}, 0, 1, 1, False, "no"),
            *(1, False),
        )
        store = Store(f"sqlite:///{tmp_path}/s.db", "s")
        store.begin(study.make_plan(request, task))
        return store

    return make


@pytest.mark.slow
def test_an_optimizer_that_calls_exit_is_named(begun, tmp_path):
    store = begun("calls_exit")
    with pytest.raises(
        TrialFailedError, match=r"^x's test trial of seed 1000: SystemExit: 0 \(.*py:17\)$"
    ):
        run_worker(store, WorkerOptions(None, tmp_path, 60.0), bool, print)


@pytest.mark.slow
def test_an_optimizers_keyboard_interrupt_is_named(begun, tmp_path, monkeypatch):
    store = begun("interrupted")
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):  # as the user's Ctrl-C
        run_worker(store, WorkerOptions(None, tmp_path, 60.0), bool, print)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)  # as in a child
    begun("interrupted")
    match = r"^x's test trial of seed 1000: KeyboardInterrupt \(.*py:21\)$"
    plan = store.plan()
    claim = ClaimedTrial(0, "key", schedule.trials(plan, {})[0])
    worker = Worker(store, WorkerOptions(None, tmp_path, 60.0), bool, print, print, print)
    with pytest.raises(TrialFailedError, match=match):
        worker.run(plan, worker.task_for(plan), claim, is_first=False)


def test_a_long_message_is_cut_and_its_place_is_kept(begun, tmp_path):
    store = begun("long_message")
    with pytest.raises(
        TrialFailedError, match=r"^x's test .*: ValueError: beginxx.*left out\) .*xx \("
    ) as e:
        run_worker(store, WorkerOptions(None, tmp_path, 60.0), bool, print)
    assert len(str(e.value)) < 1300
    assert 'mine.py", line 24, in long_message' in e.value.trace
    assert len(e.value.trace) < 5000


@pytest.mark.slow
def test_a_trial_that_cannot_be_resumed_leaves_no_checkpoint(begun, tmp_path):
    for reasons, count in (({}, 1), ({"x": "its next steps differ"}, 0)):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "optimizer 'x' does not continue from its state_dict")
            store = begun("Exits", reasons)
        steps = iter([False] * 9 + [True] * 99)
        folder = tmp_path / str(count)
        run_worker(store, WorkerOptions(None, folder, 60.0), lambda s=steps: next(s), print)
        assert len(list(folder.rglob("*.checkpoint"))) == count
        assert store.records(store.plan()) == {}


@pytest.mark.slow
def test_a_trial_is_named_by_the_process_that_runs_it(begun):
    store = begun("Exits")
    assert store.run_by(os.getpid()) is None
    plan = store.plan()
    claim = store.claim(plan, schedule.trials(plan, {}))
    assert claim.spec == Spec("x", "test", 1000, claim.spec.point)
    assert store.run_by(os.getpid()) == "x's test trial of seed 1000"
    assert store.run_by(1) is None
