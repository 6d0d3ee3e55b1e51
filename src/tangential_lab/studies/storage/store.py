"""The plan and the trials of a study in Optuna's database, and how workers share them.

A trial is WAITING, RUNNING, COMPLETE (with its record) or FAIL: its worker died or stopped, or it
was queued twice. If several trials that have not failed have the same key, the oldest one counts.
Therefore workers can queue the missing trials of a plan without a lock, and nothing is lost when a
worker dies.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any

from tangential_lab.studies import schedule
from tangential_lab.studies.changes import outdated
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.search import optuna
from tangential_lab.studies.storage import database, trials
from tangential_lab.studies.storage.records import decode_record, encode_record
from tangential_lab.studies.storage.trials import ClaimedTrial, ClaimLostError, FrozenTrial
from tangential_lab.studies.storage.urls import is_file, without_password
from tangential_lab.training import Record, Records, Spec, trial_title

WATCH_S = 2 * database.BEAT_S  # seconds to watch a stale trial before its worker counts as dead
STARTING_S = 15  # seconds to wait for a server that is starting
PATIENCE_S = 300  # seconds to retry while a server is unavailable
STOP_POLL_S = 0.5  # while waiting for a server
NOT_FAILED = ("WAITING", "RUNNING", "COMPLETE")


class Store:
    """The trials of a study.

    Args:
        url: URL of the database, in SQLAlchemy's form: sqlite:///FILE or postgresql://...
        name: Name of the study.
        wait_s: Seconds to wait for a server that refuses connections because it is starting. Other
            errors of connecting (an unknown host, a wrong password) raise at once.
        create: Create the file and its tables if they do not exist.

    Raises:
        ValueError: the database cannot be opened, does not exist, or belongs to another program.
    """

    def __init__(
        self, url: str, name: str, wait_s: float = STARTING_S, *, create: bool = True
    ) -> None:
        self.url, self.name = url, name
        self.rdb = database.open_storage(url, wait_s, create=create)
        self.storage = optuna().storages.get_storage(self.rdb)
        self.read_records: dict[int, Record] = {}  # by the trial's number
        self.liveness = trials.LivenessMonitor(WATCH_S)
        # trials whose claim may not have been committed, because the database disconnected
        self.unsure: set[int] = set()
        self.patience_s = 10 if is_file(url) else PATIENCE_S
        self.stop: Callable[[], bool] = lambda: False  # the user wants to stop: do not wait

    def close(self) -> None:
        """Close the connections to the database."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()

    # ---- the plan

    def names(self) -> list[str]:
        """The studies of this database."""
        with self.undamaged("the list of studies"):
            return sorted(map(str, optuna().get_all_study_names(self.storage)))

    def begin(self, plan: Plan) -> str:
        """Create the study, or change its plan; trials that both plans have are kept.

        Returns:
            A sentence on the finished trials that do not count any more, and why; or "".
        """
        with self.undamaged():
            direction = "maximize" if plan.metric.higher_is_better else "minimize"
            study = optuna().create_study(
                storage=self.storage, study_name=self.name, direction=direction, load_if_exists=True
            )
        with self.undamaged("the plan"):
            foreign = "plan" not in study.user_attrs and study.get_trials(deepcopy=False)
        if foreign:
            raise ValueError(
                f"study {self.name!r} in {without_password(self.url)} was not made by `tangential "
                "compare`: choose another name (--study NAME)"
            )
        message = ""
        with suppress(ValueError):  # a plan of another version, which is replaced
            old = Plan.of(study.user_attrs["plan"]) if "plan" in study.user_attrs else plan
            message = outdated(old, plan, self.records(old))
        study.set_user_attr("plan", plan.text())
        return message

    def plan(self) -> Plan:
        """The study's plan; ValueError if there is no such study, or no plan that can be read."""
        names, url = self.names(), without_password(self.url)
        if self.name not in names:
            known = ", ".join(names) or "none"
            raise ValueError(f"no study {self.name!r} in {url}; known: {known}")
        with self.undamaged("the plan"):
            attributes = self.storage.get_study_user_attrs(self._study_id())
            if "plan" in attributes:
                return Plan.of(attributes["plan"])
        raise ValueError(
            f"study {self.name!r} in {url} has no plan: `tangential compare` did not make it"
        )

    # ---- its trials

    def records(self, plan: Plan) -> Records:
        """The records of the finished trials of a plan."""
        complete = trials.oldest_by_key(self._trials(), "COMPLETE")

        def finished(specs: list[Spec]) -> Records:
            return {s: self._record(t) for s in specs if (t := complete.get(plan.key(s)))}

        records: Records = {}
        while len(more := finished(schedule.trials(plan, records))) > len(records):
            records = more
        return records

    def claim(self, plan: Plan, specs: Iterable[Spec]) -> ClaimedTrial | None:
        """Claim a trial of `specs` for this process; None if others run or have finished all.

        It queues the trials that were never queued, and requeues the trials of dead workers.
        """
        self._fail_dead_trials()
        by_key = {plan.key(spec): spec for spec in specs}
        queued = trials.oldest_by_key(self._trials(), *NOT_FAILED)
        for key, spec in by_key.items():
            if key not in queued:
                waiting = trials.waiting_trial(key, spec)
                self.storage.create_new_trial(self._study_id(), waiting)
        for trial in self._trials():
            key = trial.user_attrs["key"]
            if trial.state.name == "WAITING" and key in by_key:
                claim = ClaimedTrial(trial._trial_id, key, by_key[key])
                with suppress(ClaimLostError):
                    if self._take(claim):
                        return claim
        return None

    def run_by(self, pid: int) -> str | None:
        """A description of the trial that a process of this machine runs, or ran when it ended."""
        for trial in self._trials():
            about = trial.user_attrs
            owner = trials.parse_owner(about.get("owner"))
            owned = owner and (owner["machine"], owner["pid"]) == (trials.machine_id(), pid)
            if trial.state.name == "RUNNING" and owned:
                return trial_title(about["optimizer"], about["phase"], about["seed"])
        return None

    def beat(self, claim: ClaimedTrial) -> None:
        """Record a heartbeat; raise ClaimLostError if the trial was given to another worker."""
        if self.storage.get_trial(claim.id).state.is_finished():
            raise ClaimLostError
        self.rdb.record_heartbeat(claim.id)

    def finish(self, claim: ClaimedTrial, record: Record) -> None:
        """Store a trial's record; raise ClaimLostError if it was given to another worker."""
        text, stored = encode_record(record), self.storage.get_trial(claim.id)
        if stored.state.name == "COMPLETE" and stored.user_attrs["record"] == text:
            return  # an earlier try was committed before the database disconnected
        with trials.claim_checked():
            self.storage.set_trial_user_attr(claim.id, "record", text)
            complete = optuna().trial.TrialState.COMPLETE
            self.storage.set_trial_state_values(claim.id, complete, [record["score"]])

    def give_back(self, claim: ClaimedTrial) -> None:
        """Release the trial, so that another worker can claim it."""
        self._fail(claim.id, "given back")

    def undamaged(self, what: str = "") -> AbstractContextManager[None]:
        """Turns errors of a damaged database, and of reading `what`, into a ValueError."""
        return database.undamaged(self.url, f"{what} of study {self.name!r}" if what else "")

    def retry(self, act: Callable[[], Any]) -> Any:
        """The result of `act`, called again for `patience_s` while the database is unavailable.

        When `stop` returns True, the error is raised at once.
        """
        deadline, pause_s = time.monotonic() + self.patience_s, 0.5
        while True:
            try:
                return act()
            except database.database_errors():
                if time.monotonic() > deadline or self.stop():
                    raise
                self._pause(pause_s)
                pause_s = min(2 * pause_s, 15.0)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.stop():
            time.sleep(min(left, STOP_POLL_S))

    def _study_id(self) -> int:
        return self.storage.get_study_id_from_name(self.name)

    def _record(self, trial: FrozenTrial) -> Record:
        if trial.number not in self.read_records:
            with self.undamaged(f"trial {trial.number}"):
                self.read_records[trial.number] = decode_record(trial.user_attrs.get("record"))
        return self.read_records[trial.number]

    def _trials(self) -> list[FrozenTrial]:
        """The study's trials without those that another program may have added."""
        with self.undamaged("a trial"):
            all_trials = self.storage.get_all_trials(self._study_id(), deepcopy=False)
        return [trial for trial in all_trials if isinstance(trial.user_attrs.get("key"), str)]

    def _take(self, claim: ClaimedTrial) -> bool:
        """Set the trial to RUNNING; return whether this process may run it."""
        self.beat(claim)  # first, so that others notice if this process dies after the next line
        self.unsure.add(claim.id)
        with trials.claim_checked():
            if not self.storage.set_trial_state_values(claim.id, optuna().trial.TrialState.RUNNING):
                return False
            self.storage.set_trial_user_attr(claim.id, "owner", trials.current_owner())
        oldest = trials.oldest_by_key(self._trials(), *NOT_FAILED).get(claim.key)
        if oldest is not None and oldest._trial_id != claim.id:
            self._fail(claim.id, "queued twice")
            return False
        self.unsure.remove(claim.id)
        return True

    def _fail_dead_trials(self) -> None:
        """Fail the trials of dead workers, and trials that this process claimed without notice."""
        self.liveness.update(self.rdb._get_stale_trial_ids(self._study_id()))
        for trial in self._trials():
            if trial.state.name == "RUNNING":
                owner = trials.parse_owner(trial.user_attrs.get("owner"))
                if self.liveness.is_dead(trial._trial_id, owner):
                    self._fail(trial._trial_id, "its worker died")
                elif trial._trial_id in self.unsure and owner == trials.current_owner():
                    self._fail(trial._trial_id, "the database was unavailable")

    def _fail(self, trial_id: int, why: str) -> None:
        """Let the trial fail, if it has not ended yet."""
        with suppress(ClaimLostError), trials.claim_checked():
            self.storage.set_trial_user_attr(trial_id, "why", why)
            self.storage.set_trial_state_values(trial_id, optuna().trial.TrialState.FAIL)
