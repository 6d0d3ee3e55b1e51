"""Trials and their store: nothing is lost, nothing runs twice, a resumed trial is the whole one.

Workers are forked from a server that has imported everything, so that fifty can be killed.
"""

import json
import math
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

import made_study as made
import pytest
import torch
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from tangential_lab import experiments as tasks
from tangential_lab.studies import provenance, study
from tangential_lab.studies.storage import ClaimedTrial, ClaimLostError, Store, database, liveness
from tangential_lab.studies.storage.trials import waiting_trial
from tangential_lab.studies.workers import StudyFailedError, WorkerOptions, pool, run_worker
from tangential_lab.training import (
    OPTIMIZERS,
    ProcessShare,
    Spec,
    checkpoint,
    steps_per_epoch,
    training_batches,
)
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped

TIMED = {"seconds", "step_s", "optimizer_s", "provenance"}
POINT = (("lr", 0.02), ("weight_decay", 1e-3))
SPEC = Spec("adamp", "test", 1000, POINT)
INVARIANT = frozenset({"0.weight", "3.weight", "7.weight"})


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    return tasks.make("digits", None, {})


def told(record):
    """A record without what a clock says."""
    scores = {k: v for k, v in record["scores"].items() if k != "time_s"}
    return json.dumps({k: v for k, v in record.items() if k not in TIMED} | {"scores": scores})


def trained(task, spec=SPEC, **run):
    options = {"evaluations": 3, "layers": True, **run}
    return Trial(
        task, OPTIMIZERS[spec.optimizer], spec, TrialOptions(2, INVARIANT, **options)
    ).train()


def request(**changes):
    usual = study.StudyRequest(
        *("digits", {}, ("sgdp", "adamp"), {}, 2, 2, 1, False),
        *("no", 1, False),
    )
    return usual._replace(**changes)


def begun(url, task, **changes):
    plan = study.make_plan(request(**changes), task)
    store = Store(url, "s")
    store.begin(plan)
    return store, plan


class TestTrial:
    def test_record_says_what_was_done(self, digits):
        record = trained(digits)
        assert record["steps"] == 32
        assert record["scores"]["step"] == [8, 16, 24, 32]
        assert record["score"] == record["metrics"]["accuracy"] == record["scores"]["score"][-1]
        assert record["score"] > 0.6
        assert record["curves"]["step"] == [1, 11, 21, 31]
        losses = record["curves"]["loss"]
        assert losses[-1] < losses[0]
        assert record["layers"]["names"] == sorted(INVARIANT)
        assert [len(row) for row in record["layers"]["norm"]] == [3] * 4
        assert record["norm"] == record["curves"]["norm"][-1] > 0
        total = sum(v for k, v in record["seconds"].items() if k != "total")
        assert record["seconds"]["total"] == pytest.approx(total)

    def test_norm_and_effective_step_are_the_models(self, digits):
        """Recomputed outside, from the weights around every step."""
        seen = []

        def spy(groups, **point):
            optimizer = OPTIMIZERS["sgdp"].build(groups, **point)
            kernels = groups[0]["params"]
            look = lambda *_: seen.append([w.detach().clone().double() for w in kernels])
            optimizer.register_step_pre_hook(look)
            optimizer.register_step_post_hook(look)
            return optimizer

        optimizer = OPTIMIZERS["sgdp"]._replace(build=spy)
        spec = SPEC._replace(point=(("lr", 0.5), ("weight_decay", 1e-3)))
        record = Trial(digits, optimizer, spec, TrialOptions(2, INVARIANT)).train()
        for i, step in enumerate(record["curves"]["step"]):
            before, after = seen[2 * step], seen[2 * step + 1]
            norm = sum(w.norm().item() for w in after) / 3
            rows = [
                (b.flatten(1) / b.flatten(1).norm(dim=1, keepdim=True)
                 - a.flatten(1) / a.flatten(1).norm(dim=1, keepdim=True)).norm(dim=1)
                for a, b in zip(before, after, strict=True)
            ]  # fmt: skip
            turn = sum(row.square().mean().sqrt().item() for row in rows) / 3
            assert record["curves"]["norm"][i] == pytest.approx(norm, rel=0.02)
            assert record["curves"]["effective_step"][i] == pytest.approx(turn, rel=1e-3)

    def test_divergence_is_recorded_and_scores_as_a_guess(self, digits):
        point = (("lr", 1e12), ("weight_decay", 1e-3))
        record = trained(digits, SPEC._replace(optimizer="sgd", point=point))
        assert record["diverged"] is True
        assert record["score"] == digits.metric.chance_score == 0.1
        assert record["loss"] == float("inf")

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_a_resumed_trial_is_the_uninterrupted_one(self, optimizer, digits, tmp_path):
        spec = SPEC._replace(optimizer=optimizer)
        whole = trained(digits, spec)
        left = iter([3, 1, 9, 6, 99])
        while True:
            steps = iter(range(next(left), -1, -1))
            try:
                record = trained(digits, spec, folder=tmp_path, stop=lambda s=steps: not next(s))
                break
            except TrialStopped:
                assert list(tmp_path.glob("*.checkpoint"))
        assert told(record) == told(whole)

    def test_a_diverged_trial_is_not_left_to_be_resumed(self, digits, tmp_path):
        spec = SPEC._replace(optimizer="sgd", point=(("lr", 1e12), ("weight_decay", 1e-3)))
        whole = trained(digits, spec)
        steps = iter(range(1, whole["steps"] + 1))  # stops at the step that is seen to diverge
        stop = lambda: next(steps) == whole["steps"]
        record = trained(digits, spec, folder=tmp_path, stop=stop)
        assert record["diverged"]
        assert told(record) == told(whole)

    def test_a_model_that_diverges_between_logs_is_not_scored(self, digits):
        def breaks(groups, **point):
            optimizer = OPTIMIZERS["adamp"].build(groups, **point)
            steps = iter(range(99))

            def last(*_):
                if next(steps) == 31:
                    groups[0]["params"][0].data.fill_(math.nan)

            optimizer.register_step_post_hook(last)
            return optimizer

        task = digits._replace(score=lambda predictions: pytest.fail("scored"))
        optimizer = OPTIMIZERS["adamp"]._replace(build=breaks)
        record = Trial(task, optimizer, SPEC, TrialOptions(2, INVARIANT)).train()
        assert record["diverged"] is True
        assert record["score"] == 0.1
        assert record["steps"] == 32

    def test_steps_that_a_scaler_skips_are_logged_as_not_known(self, digits):
        def skips(groups, **point):
            optimizer = OPTIMIZERS["sgdp"].build(groups, **point)
            plainly, calls = optimizer.step, iter(range(99))

            def step(*args):
                if next(calls) in (0, 11):
                    return None
                return plainly(*args)

            optimizer.step = step
            return optimizer

        optimizer = OPTIMIZERS["sgdp"]._replace(build=skips)
        record = Trial(digits, optimizer, SPEC, TrialOptions(2, INVARIANT, layers=True)).train()
        assert record["curves"]["step"] == [1, 11, 21, 31]
        known = [not math.isnan(x) for x in record["curves"]["norm"]]
        assert known == [True, False, True, True]
        rows = record["layers"]["norm"]
        assert [len(row) for row in rows] == [3] * 4
        assert [not any(map(math.isnan, row)) for row in rows] == known

    def test_batches_depend_on_seed_and_step_alone(self, digits):
        steps = steps_per_epoch(digits)
        first = [
            b
            for b, _ in zip(
                training_batches(digits, 5, 0, ProcessShare()), range(2 * steps), strict=False
            )
        ]
        later = training_batches(digits, 5, steps + 3, ProcessShare())
        assert torch.equal(next(later)[0], first[steps + 3][0])
        halves = [
            next(training_batches(digits, 5, 4, ProcessShare(rank, 2)))[1] for rank in range(2)
        ]
        assert torch.equal(torch.cat(halves), first[4][1])
        other = next(training_batches(digits, 6, 0, ProcessShare()))
        assert not torch.equal(other[1], first[0][1])

    def test_splits_do_not_overlap(self, digits):
        together = torch.cat([split.inputs for split in digits.splits.values()]).flatten(1)
        assert len(together.unique(dim=0)) == 1797

    def test_the_audit_finds_what_batch_norm_makes_invariant(self, digits):
        assert set(study.scale_invariant_weights(digits)) == INVARIANT


STATE = {"step": 3, "model": {"w": torch.ones(3)}}


class TestCheckpoint:
    def test_a_corrupt_one_falls_back_to_the_one_before(self, tmp_path):
        for step in (1, 2, 3):
            checkpoint.save(tmp_path, {**STATE, "step": step})
        paths = sorted(tmp_path.iterdir())
        assert len(paths) == 2
        content = bytearray(paths[1].read_bytes())
        content[len(content) // 2] ^= 1
        paths[1].write_bytes(content)
        with pytest.warns(UserWarning, match="is not used: its checksum"):
            assert checkpoint.load(tmp_path)["step"] == 2
        paths[0].write_bytes(b"")
        with pytest.warns(UserWarning, match="is not used"):
            assert checkpoint.load(tmp_path) is None

    def test_no_code_is_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (os.mkdir, (str(tmp_path / "run"),))

        checkpoint.save(tmp_path, {**STATE, "evil": Evil()})
        with pytest.warns(UserWarning, match="is not used"):
            assert checkpoint.load(tmp_path) is None
        assert not (tmp_path / "run").exists()

    def test_a_full_disk_leaves_the_old_one_and_training_goes_on(
        self, digits, tmp_path, monkeypatch
    ):
        checkpoint.save(tmp_path, STATE)

        def full(_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                checkpoint.save(tmp_path, {**STATE, "step": 9})
            with pytest.warns(UserWarning, match="No space left"):
                record = trained(digits, folder=tmp_path / "other", checkpoint_s=0)
        assert checkpoint.load(tmp_path)["step"] == 3
        assert len(list(tmp_path.glob("*.checkpoint*"))) == 1
        assert told(record) == told(trained(digits))


def finished(plan, spec):
    return made.record(plan, spec, random.Random(0), 0.5) | {"score": 0.5, "norm": math.nan}


class TestStore:
    def test_a_plan_comes_back_as_it_was(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/a/s.db", digits)
        assert Store(store.url, "s").plan().text() == plan.text()
        with pytest.raises(ValueError, match=r"no study 't' in .*; known: s"):
            Store(store.url, "t").plan()

    def test_every_trial_is_claimed_once(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        other = Store(store.url, "s")
        specs, claims = plan.tuning_trials(), []
        for turn in (store, other, store, other):
            claims.append(turn.claim(plan, specs))
        assert sorted(c.spec for c in claims) == sorted(specs)
        assert other.claim(plan, specs) is None

    def test_a_finished_trial_is_neither_lost_nor_run_again(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        claim = store.claim(plan, plan.tuning_trials())
        store.finish(claim, finished(plan, claim.spec))
        again = Store(store.url, "s")
        assert again.records(plan)[claim.spec]["score"] == 0.5
        missing = [s for s in plan.tuning_trials() if s not in again.records(plan)]
        assert claim.spec not in missing
        with pytest.raises(ClaimLostError):
            again.finish(claim, {"score": 0.7})
        longer = plan._replace(trials=3, seeds=9)
        again.begin(longer)
        assert again.records(longer).keys() == {claim.spec}
        other = plan._replace(epochs=7)
        assert again.records(other) == {}

    @pytest.mark.parametrize("act", ["set_trial_user_attr", "set_trial_state_values"])
    def test_a_record_is_kept_that_the_database_goes_away_from(
        self, act, digits, tmp_path, monkeypatch
    ):
        """It is written, in part or whole, and this process, which goes on, is not told."""
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        claim, real = store.claim(plan, plan.tuning_trials()), getattr(store.storage, act)

        def unheard(*arguments):
            real(*arguments)
            monkeypatch.undo()
            raise StorageInternalError("gone")

        monkeypatch.setattr(store.storage, act, unheard)
        record = finished(plan, claim.spec)
        store.retry(lambda: store.finish(claim, record))
        assert store.records(plan)[claim.spec]["score"] == 0.5

    def test_what_was_given_back_is_claimed_again(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        claim = store.claim(plan, plan.tuning_trials()[:1])
        assert store.claim(plan, plan.tuning_trials()[:1]) is None
        store.give_back(claim)
        again = store.claim(plan, plan.tuning_trials()[:1])
        assert again.key == claim.key
        assert again.id != claim.id
        with pytest.raises(ClaimLostError):
            store.beat(claim)

    def test_the_living_keep_their_trials_whatever_the_clocks_say(
        self, digits, tmp_path, monkeypatch
    ):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        claim = store.claim(plan, plan.tuning_trials()[:1])
        stale = {claim.id}  # as if this machine had slept, or the database been gone
        monkeypatch.setattr(store.rdb, "_get_stale_trial_ids", lambda _: list(stale))
        assert store.claim(plan, [claim.spec]) is None
        away = liveness.current_owner() | {"machine": "another"}
        store.storage.set_trial_user_attr(claim.id, "owner", away)
        store.liveness.watch_s = 0.05
        store.liveness.stale_since.clear()
        assert store.claim(plan, [claim.spec]) is None  # missed for the first time
        time.sleep(0.1)
        stale.clear()  # it comes back
        assert store.claim(plan, [claim.spec]) is None
        stale.add(claim.id)
        assert store.claim(plan, [claim.spec]) is None
        time.sleep(0.1)
        again = store.claim(plan, [claim.spec])
        assert again.key == claim.key
        with pytest.raises(ClaimLostError):
            store.finish(claim, {"score": 0.5})

    def test_a_trial_that_ends_while_it_is_claimed_is_another_ones(
        self, digits, tmp_path, monkeypatch
    ):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        other, spec = Store(store.url, "s"), plan.tuning_trials()[0]
        beat = store.beat

        def slowly(claim):
            beat(claim)
            other.give_back(claim)

        monkeypatch.setattr(store, "beat", slowly)
        assert store.claim(plan, [spec]) is None
        monkeypatch.undo()
        assert store.claim(plan, [spec]).spec == spec

    @pytest.mark.parametrize("act", ["set_trial_user_attr", "get_all_trials"])
    def test_a_trial_is_not_lost_that_the_database_goes_away_from_as_it_is_claimed(
        self, act, digits, tmp_path, monkeypatch
    ):
        """Its owner is written, and this process, which lives, is not told."""
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        specs, real = plan.tuning_trials()[:1], getattr(store.storage, act)

        def unheard(*arguments, **options):
            told = real(*arguments, **options)
            if any("owner" in t.user_attrs for t in store.rdb.get_all_trials(1)):
                monkeypatch.undo()
                raise StorageInternalError("gone")
            return told

        monkeypatch.setattr(store.storage, act, unheard)
        with pytest.raises(StorageInternalError):
            store.claim(plan, specs)
        [left] = store._trials()
        assert left.state.name == "RUNNING"
        assert Store(store.url, "s").claim(plan, specs) is None  # another's, for all it knows
        again = store.claim(plan, specs)
        assert again.id != left._trial_id
        assert store.claim(plan, specs) is None

    def test_a_process_is_told_by_its_number_and_its_beginning(self):
        mine = liveness.current_owner()
        assert not liveness.has_ended(mine)
        assert liveness.has_ended(mine | {"since": mine["since"] + 1})
        assert liveness.has_ended(mine | {"pid": 2**22 + 1})

    def test_two_that_queue_at_once_leave_one_trial(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        spec = plan.tuning_trials()[0]
        for _ in range(2):  # as if neither had seen the other
            store._queue(waiting_trial(plan, plan.key(spec), spec))
        assert store.claim(plan, [spec]) is not None
        assert store.claim(plan, [spec]) is None
        assert store.claim(plan, [spec]) is None

    def test_who_loses_the_race_for_the_tables_tries_again(self, monkeypatch):
        monkeypatch.setattr(database, "PAUSE_S", 0.0)
        lost = iter([True, True])

        def make():
            if next(lost, False):
                raise OperationalError("CREATE TABLE", None, Exception("already exists"))
            return "made"

        assert database._retried(make, 0.0) == "made"
        lost = iter([True] * database.TRIES)
        with pytest.raises(OperationalError):
            database._retried(make, 0.0)

    def test_a_database_that_cannot_be_opened(self, monkeypatch):
        monkeypatch.setattr(database, "PAUSE_S", 0.0)
        with pytest.raises(ValueError, match="--storage 'nonsense' is not a valid URL"):
            Store("nonsense", "s")
        with pytest.raises(
            ValueError, match=r"--storage 'postgresql://127.0.0.1:9/x' cannot be opened: .*refused"
        ):
            Store("postgresql://127.0.0.1:9/x", "s", wait_s=0.0)

    def test_passwords_are_not_told(self, monkeypatch):
        url = "postgresql://me:secret@127.0.0.1:9/x"
        with pytest.raises(ValueError, match=r"me:\*\*\*@127") as error:
            Store(url, "s", wait_s=0.0)
        assert "secret" not in str(error.value)
        monkeypatch.setattr(sys, "argv", ["tangential", "compare", "digits", "--storage", url])
        assert "secret" not in provenance.provenance()["command"]
        assert "me:***@127.0.0.1:9/x" in provenance.provenance()["command"]


def test_a_finished_trial_is_kept_where_the_folder_is_full(digits, tmp_path, monkeypatch):
    store, plan = begun(
        f"sqlite:///{tmp_path}/s.db", digits, optimizers=("sgdp",), trials=1, seeds=1
    )
    (tmp_path / "work").write_text("no folder")
    said = []
    with pytest.warns(UserWarning, match="checkpoint not saved, training continues"):
        run_worker(store, WorkerOptions(None, tmp_path / "work", 0.0), bool, said.append)
    assert len(store.records(plan)) == plan.size == 2
    assert "The record of a finished trial cannot be saved in" in said[0]


def test_a_run_in_which_weights_stay_as_they_were_is_refused(digits):
    with pytest.raises(ValueError, match=r"epochs must be more than 2 with digits, .* got 2"):
        study.make_plan(request(epochs=2), digits._replace(frozen_epochs=2.0))


def test_a_study_that_gets_another_plan_ends_here(digits, tmp_path):
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    running = study.run_study(store, plan, WorkerOptions(None, tmp_path, 60.0), 0, Event(), print)
    assert next(running) == {}
    Store(store.url, "s").begin(plan._replace(seeds=3))
    with pytest.raises(StudyFailedError, match="has been given another plan"):
        next(running)


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
    context.set_forkserver_preload(["tangential_lab.training.trial", "test_engine"])
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
    return {spec: told(record) for spec, record in store.records(plan).items()}


def assert_same(store, plan, reference):
    records = store.records(plan)
    assert len(records) == plan.size == len(reference)
    assert {spec: told(record) for spec, record in records.items()} == reference
    complete = [t.user_attrs["key"] for t in store._trials() if t.state.name == "COMPLETE"]
    assert len(complete) == len(set(complete))


def test_fifty_kills_lose_nothing(digits, server, reference, tmp_path):
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    chance, kills = random.Random(0), 0
    while kills < 50:
        workers = [server.Process(target=_work, args=(store.url, tmp_path, 0.0)) for _ in range(2)]
        for one in workers:
            one.start()
        time.sleep(chance.uniform(0.0, 1.2))
        for one in workers:
            if one.is_alive():
                os.kill(one.pid, signal.SIGKILL)
                kills += 1
            one.join()
        if len(store.records(plan)) == plan.size:  # begin anew: they are to be killed at work
            assert_same(store, plan, reference)
            shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
            (tmp_path / "s.db").unlink()
            store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    finished_by(server, store, tmp_path)
    assert_same(store, plan, reference)
    assert not (tmp_path / "checkpoints").exists()


def test_two_workers_give_the_results_of_one(digits, server, reference, tmp_path):
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
    finished_by(server, store, tmp_path, 2)
    assert_same(store, plan, reference)


def test_a_finished_record_outlives_worker_and_database(digits, tmp_path, monkeypatch):
    """The database is gone when a trial ends, and so is its worker: the record waits on disk."""
    store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits, optimizers=("sgdp",), trials=1)
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
    with pytest.raises(pytest.fail.Exception):
        run_worker(again, WorkerOptions(None, tmp_path, 60.0), bool, print)
    assert [told(r) for r in again.records(plan).values()] == [told(record)]


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
