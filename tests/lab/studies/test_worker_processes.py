"""Studies whose workers, folders or databases are killed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest
import torch
from digits_study import begun, study_request, without_times
from optuna.exceptions import StorageInternalError

from tangential_lab.studies import schedule, study
from tangential_lab.studies.storage.store import Store
from tangential_lab.studies.storage.trials import ClaimedTrial
from tangential_lab.studies.workers import pool
from tangential_lab.studies.workers.pool import StudyFailedError
from tangential_lab.studies.workers.worker import WorkerOptions, run_worker
from tangential_lab.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_a_finished_trial_is_kept_where_the_folder_is_full(digits, tmp_path, monkeypatch):
    store, plan = begun(
        f"sqlite:///{tmp_path}/s.db", digits, optimizers=("sgdp",), trials=0, seeds=2
    )
    (tmp_path / "work").write_text("no folder")
    said = []
    with pytest.warns(UserWarning, match="checkpoint not saved, training continues"):
        run_worker(store, WorkerOptions(None, tmp_path / "work", 0.0), bool, said.append)
    assert len(store.records(plan)) == schedule.size(plan, {}) == 2
    assert "The record of a finished trial cannot be saved in" in said[0]


def test_a_run_shorter_than_its_frozen_epochs_is_refused(digits):
    with pytest.raises(ValueError, match=r"epochs must be more than 2 with digits, .* got 2"):
        study.make_plan(study_request(epochs=2), digits._replace(frozen_epochs=2.0))


@pytest.mark.slow
def test_a_study_ends_when_another_command_changes_its_plan(digits, tmp_path):
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    running = study.run_study(store, plan, WorkerOptions(None, tmp_path, 60.0), 0, Event(), print)
    assert next(running) == ({}, [])
    Store(store.url, "s").begin(plan._replace(seeds=3))
    with pytest.raises(StudyFailedError, match="has changed the plan of this study"):
        next(running)


@pytest.mark.slow
def test_the_share_of_the_steps_that_a_running_trial_has_done_is_known(digits, tmp_path):
    sizes = {"optimizers": ("sgdp",), "trials": 0, "seeds": 1, "epochs": 15}
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits, **sizes)
    options = WorkerOptions(None, tmp_path, 60.0)
    seen = list(study.run_study(store, plan, options, 1, Event(), print))
    shares = [share for snapshot in seen for share in snapshot.shares]
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    assert [len(snapshot.records) for snapshot in (seen[0], seen[-1])] == [0, 1]
    assert not seen[-1].shares


def test_every_worker_has_a_gpu_of_its_own_before_cuda_is_asked(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("asked"))
    pool._one_device(5, 4)
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1"
    pool._one_device(5, 0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


# ---- workers that are killed


def _work(url, folder, checkpoint_s=60.0):
    torch.set_num_threads(1)
    os.setpgid(0, 0)
    run_worker(Store(url, "s"), WorkerOptions(None, Path(folder), checkpoint_s), bool, print)


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tangential_lab.training.trial", "test_worker_processes"])
    return context


def finished_by(server, store, folder, count=1):
    workers = [server.Process(target=_work, args=(store.url, folder)) for _ in range(count)]
    for one in workers:
        one.start()
    for one in workers:
        one.join(240)
        assert one.exitcode == 0


@pytest.fixture(scope="module")
def reference(digits, server, tmp_path_factory):
    """The records of a study that one worker has run undisturbed."""
    folder = tmp_path_factory.mktemp("reference")
    store, plan = begun(f"sqlite:///{folder}/s.db", digits)
    finished_by(server, store, folder)
    return {spec: without_times(record) for spec, record in store.records(plan).items()}


def assert_same(store, plan, reference):
    records = store.records(plan)
    assert not schedule.missing(plan, records)
    assert len(records) == len(reference)
    assert {spec: without_times(record) for spec, record in records.items()} == reference
    complete = [t.user_attrs["key"] for t in store._trials() if t.state.name == "COMPLETE"]
    assert len(complete) == len(set(complete))


@pytest.mark.slow
def test_twenty_kills_lose_nothing(digits, server, reference, tmp_path):
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    chance, kills = random.Random(0), 0
    while kills < 20:
        workers = [server.Process(target=_work, args=(store.url, tmp_path, 0.0)) for _ in range(2)]
        for one in workers:
            one.start()
        time.sleep(chance.uniform(0.0, 1.2))
        for one in workers:
            if one.is_alive():
                os.kill(one.pid, signal.SIGKILL)
                kills += 1
            one.join()
        # begin again when all is done: workers must be killed while they work
        if not schedule.missing(plan, store.records(plan)):
            assert_same(store, plan, reference)
            shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
            (tmp_path / "s.db").unlink()
            store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    finished_by(server, store, tmp_path)
    assert_same(store, plan, reference)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_two_workers_give_the_results_of_one(digits, server, reference, tmp_path):
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    finished_by(server, store, tmp_path, 2)
    assert_same(store, plan, reference)


@pytest.mark.slow
def test_a_finished_record_outlives_worker_and_database(digits, tmp_path, monkeypatch):
    """The database is gone when a trial ends, and so is its worker: the record waits on disk."""
    sizes = {"optimizers": ("sgdp",), "trials": 1, "seeds": 1, "sweep": True}
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits, **sizes)  # one trial
    store.patience_s = 0

    def gone(*_):
        raise StorageInternalError("gone")

    monkeypatch.setattr(store, "finish", gone)
    with pytest.raises(Exception, match="gone"):
        run_worker(store, WorkerOptions(None, tmp_path, 60.0), bool, print)
    [left] = (tmp_path / "checkpoints").rglob("finished.json")
    record = json.loads(left.read_text())
    again = Store(store.url, "s")
    for trial in again._trials():
        if trial.state.name == "RUNNING":
            again.give_back(ClaimedTrial(trial._trial_id, trial.user_attrs["key"], None))
    monkeypatch.setattr(Trial, "train", lambda self: pytest.fail("was trained again"))
    run_worker(again, WorkerOptions(None, tmp_path, 60.0), bool, print)
    assert [without_times(r) for r in again.records(plan).values()] == [without_times(record)]


# ---- PostgreSQL

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class Server:
    """A PostgreSQL server on this machine alone, its data in a folder."""

    def __init__(self, folder):
        self.folder, self.port = folder, 20000 + os.getpid() % 20000
        shutil.chown(folder, "postgres")
        self.run("initdb", "-D", f"{folder}/db", "-U", "tangential", "-A", "trust")
        self.start()

    def run(self, program, *arguments):
        command = [str(POSTGRES / program), *map(str, arguments)]
        if os.getuid() == 0:  # it does not run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, timeout=60, cwd="/", stdout=subprocess.DEVNULL)

    def start(self):
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self.run(
            "pg_ctl",
            "-D",
            self.folder / "db",
            "-l",
            self.folder / "log",
            "-w",
            "-o",
            options,
            "start",
        )

    def kill(self):
        pid = int((self.folder / "db/postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def stop(self):
        self.run("pg_ctl", "-D", self.folder / "db", "-m", "immediate", "stop")

    @property
    def url(self):
        return f"postgresql://tangential@127.0.0.1:{self.port}/postgres"


@pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.slow
def test_two_workers_on_postgresql_that_is_killed_give_the_results_of_one(
    digits, server, reference, tmp_path_factory
):
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as short:
        database = Server(Path(short))
        try:
            store, plan = begun(database.url, digits)
            folder = tmp_path_factory.mktemp("work")
            workers = [
                server.Process(target=_work, args=(store.url, folder / str(i))) for i in range(2)
            ]
            for one in workers:
                one.start()
            while not store.records(plan):
                time.sleep(0.1)
            database.kill()
            time.sleep(1)
            database.start()
            for one in workers:
                one.join(200)
            assert [one.exitcode for one in workers] == [0, 0]
            assert_same(store, plan, reference)
            taken = {
                t.user_attrs["owner"]["pid"] for t in store._trials() if "owner" in t.user_attrs
            }
            assert len(taken) == 2
        finally:
            store.close()
            database.stop()
