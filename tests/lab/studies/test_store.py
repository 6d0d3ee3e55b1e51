"""Workers that share a store: claims, heartbeats, records."""

import math
import random
import sys
import time

import made_study as made
import pytest
from digits_study import begun
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from tangential_lab.studies import provenance, tuning
from tangential_lab.studies.storage import database, trials
from tangential_lab.studies.storage.store import Store
from tangential_lab.studies.storage.trials import ClaimLostError

pytestmark = pytest.mark.usefixtures("one_thread")


def finished(plan, spec):
    return made.record(plan, spec, random.Random(0), 0.5) | {"score": 0.5, "norm": math.nan}


class TestStore:
    def test_a_plan_comes_back_as_it_was(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/a/s.db", digits)
        assert Store(store.url, "s").plan().text() == plan.text()
        with pytest.raises(ValueError, match=r"no study 't' in .*; known: s"):
            Store(store.url, "t").plan()

    @pytest.mark.slow
    def test_every_trial_is_claimed_once(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        other = Store(store.url, "s")
        specs, claims = tuning.tuning_trials(plan, {})[:4], []
        for turn in (store, other, store, other):
            claims.append(turn.claim(plan, specs))
        assert sorted(c.spec for c in claims) == sorted(specs)
        assert other.claim(plan, specs) is None

    def test_a_finished_trial_is_neither_lost_nor_run_again(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        claim = store.claim(plan, tuning.tuning_trials(plan, {}))
        store.finish(claim, finished(plan, claim.spec))
        again = Store(store.url, "s")
        assert again.records(plan)[claim.spec]["score"] == 0.5
        missing = [s for s in tuning.tuning_trials(plan, {}) if s not in again.records(plan)]
        assert claim.spec not in missing
        with pytest.raises(ClaimLostError):
            again.finish(claim, {"score": 0.7})
        longer = plan._replace(trials=3, seeds=9)
        again.begin(longer)
        assert again.records(longer).keys() == {claim.spec}
        other = plan._replace(epochs=7)
        assert again.records(other) == {}

    @pytest.mark.parametrize("act", ["set_trial_user_attr", "set_trial_state_values"])
    @pytest.mark.slow
    def test_a_record_is_kept_if_the_database_disconnects(self, act, digits, tmp_path, monkeypatch):
        """The database commits all or a part, but this process gets an error, and continues."""
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        claim, real = (
            store.claim(plan, tuning.tuning_trials(plan, {})),
            getattr(store.storage, act),
        )

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
        claim = store.claim(plan, tuning.tuning_trials(plan, {})[:1])
        assert store.claim(plan, tuning.tuning_trials(plan, {})[:1]) is None
        store.give_back(claim)
        again = store.claim(plan, tuning.tuning_trials(plan, {})[:1])
        assert again.key == claim.key
        assert again.id != claim.id
        with pytest.raises(ClaimLostError):
            store.beat(claim)

    @pytest.mark.slow
    def test_live_workers_keep_their_trials_even_if_clocks_differ(
        self, digits, tmp_path, monkeypatch
    ):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        claim = store.claim(plan, tuning.tuning_trials(plan, {})[:1])
        stale = {claim.id}  # as if this machine had slept, or the database been gone
        monkeypatch.setattr(store.rdb, "_get_stale_trial_ids", lambda _: list(stale))
        assert store.claim(plan, [claim.spec]) is None
        away = trials.current_owner() | {"machine": "another"}
        store.storage.set_trial_user_attr(claim.id, "owner", away)
        store.liveness.watch_s = 0.05
        store.liveness.stale_since.clear()
        assert store.claim(plan, [claim.spec]) is None  # the first time that it is missing
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

    def test_a_trial_that_ends_while_it_is_claimed_is_not_claimed(
        self, digits, tmp_path, monkeypatch
    ):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        other, spec = Store(store.url, "s"), tuning.tuning_trials(plan, {})[0]
        beat = store.beat

        def slowly(claim):
            beat(claim)
            other.give_back(claim)

        monkeypatch.setattr(store, "beat", slowly)
        assert store.claim(plan, [spec]) is None
        monkeypatch.undo()
        assert store.claim(plan, [spec]).spec == spec

    @pytest.mark.parametrize("act", ["set_trial_user_attr", "get_all_trials"])
    @pytest.mark.slow
    def test_a_trial_is_not_lost_if_the_database_disconnects_during_its_claim(
        self, act, digits, tmp_path, monkeypatch
    ):
        """The database commits the owner, but this process gets an error, and continues."""
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        specs, real = tuning.tuning_trials(plan, {})[:1], getattr(store.storage, act)

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
        assert Store(store.url, "s").claim(plan, specs) is None  # seemingly of another process
        again = store.claim(plan, specs)
        assert again.id != left._trial_id
        assert store.claim(plan, specs) is None

    def test_a_process_is_identified_by_its_number_and_start_time(self):
        mine = trials.current_owner()
        assert not trials.has_ended(mine)
        assert trials.has_ended(mine | {"since": mine["since"] + 1})
        assert trials.has_ended(mine | {"pid": 2**22 + 1})

    def test_two_that_queue_at_once_leave_one_trial(self, digits, tmp_path):
        store, plan = begun(f"sqlite:///{tmp_path}/s.db", digits)
        spec = tuning.tuning_trials(plan, {})[0]
        for _ in range(2):  # as if neither knew of the other
            store.storage.create_new_trial(
                store._study_id(), trials.waiting_trial(plan.key(spec), spec)
            )
        assert store.claim(plan, [spec]) is not None
        assert store.claim(plan, [spec]) is None
        assert store.claim(plan, [spec]) is None

    def test_a_process_that_loses_the_race_for_the_tables_tries_again(self, monkeypatch):
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

    def test_passwords_are_not_shown(self, monkeypatch):
        url = "postgresql://me:secret@127.0.0.1:9/x"
        with pytest.raises(ValueError, match=r"me:\*\*\*@127") as error:
            Store(url, "s", wait_s=0.0)
        assert "secret" not in str(error.value)
        monkeypatch.setattr(sys, "argv", ["tangential", "compare", "digits", "--storage", url])
        assert "secret" not in provenance.provenance()["command"]
        assert "me:***@127.0.0.1:9/x" in provenance.provenance()["command"]
