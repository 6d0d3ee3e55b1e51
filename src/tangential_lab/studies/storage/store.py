"""The plan and the trials of a study in Optuna's database, and how workers share them.

A trial is WAITING, RUNNING, COMPLETE (with its record) or FAIL: its worker died or stopped, or it
was queued twice. If several trials that have not failed have the same key, the oldest one counts.
Therefore workers can queue the missing trials of a plan without a lock, and nothing is lost when a
worker dies.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any

from tangential_lab.studies.plan import Plan
from tangential_lab.studies.search import optuna
from tangential_lab.studies.storage.damage import readable, undamaged
from tangential_lab.studies.storage.database import STARTING_S, open_storage, retry
from tangential_lab.studies.storage.liveness import LivenessMonitor, current_owner, machine_id
from tangential_lab.studies.storage.records import decode_record, encode_record, parse_owner
from tangential_lab.studies.storage.trials import (
    ClaimedTrial,
    ClaimLostError,
    FrozenTrial,
    claim_checked,
    oldest_by_key,
    waiting_trial,
)
from tangential_lab.studies.storage.urls import is_file, without_password
from tangential_lab.training import Record, Records, Spec

BEAT_S = 15  # seconds between the heartbeats of a running trial
GRACE_S = 60  # seconds without a heartbeat after which a trial is stale
WATCH_S = 2 * BEAT_S  # seconds to watch a stale trial before its worker counts as dead
PATIENCE_S = 300  # seconds to retry while a server is unavailable
NOT_FAILED = ("WAITING", "RUNNING", "COMPLETE")


class Store:
    """The trials of a study.

    Args:
        url: URL of the database, in SQLAlchemy's form: sqlite:///FILE or postgresql://...
        name: Name of the study.
        wait_s: Seconds to wait for a server that is starting.
        create: Create the file and its tables if they do not exist.

    Raises:
        ValueError: the database cannot be opened, does not exist, or belongs to another program.
    """

    def __init__(
        self, url: str, name: str, wait_s: float = STARTING_S, *, create: bool = True
    ) -> None:
        self.url, self.name = url, name
        self.rdb = open_storage(url, beat_s=BEAT_S, grace_s=GRACE_S, wait_s=wait_s, create=create)
        self.storage = optuna().storages.get_storage(self.rdb)
        self.read_records: dict[int, Record] = {}  # by the trial's number
        self.liveness = LivenessMonitor(WATCH_S)
        # trials whose claim may not have been committed, because the database disconnected
        self.unsure: set[int] = set()
        self.patience_s = 10 if is_file(url) else PATIENCE_S

    def close(self) -> None:
        """Close the connections to the database."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()

    # ---- the plan

    def names(self) -> list[str]:
        """The studies of this database."""
        with self._readable("the list of studies"):
            return sorted(map(str, optuna().get_all_study_names(self.storage)))

    def begin(self, plan: Plan) -> None:
        """Create the study, or change its plan; trials that both plans have are kept."""
        direction = "maximize" if plan.metric.higher_is_better else "minimize"
        with self.undamaged():
            study = optuna().create_study(
                storage=self.storage, study_name=self.name, direction=direction, load_if_exists=True
            )
        with self._readable("the plan"):
            foreign = "plan" not in study.user_attrs and study.get_trials(deepcopy=False)
        if foreign:
            raise ValueError(
                f"study {self.name!r} in {without_password(self.url)} was not made by `tangential "
                "compare`: choose another name (--study NAME)"
            )
        study.set_user_attr("plan", plan.text())

    def plan(self) -> Plan:
        """The study's plan.

        Raises:
            ValueError: there is no such study, or it has no plan that can be read.
        """
        names, url = self.names(), without_password(self.url)
        if self.name not in names:
            raise ValueError(
                f"no study {self.name!r} in {url}; known: {', '.join(names) or 'none'}"
            )
        with self._readable("the plan"):
            study = optuna().load_study(study_name=self.name, storage=self.storage)
            attributes = study.user_attrs
        if "plan" not in attributes:
            raise ValueError(
                f"study {self.name!r} in {url} has no plan: `tangential compare` did not make it"
            )
        with self._readable("the plan"):
            return Plan.of(attributes["plan"])

    # ---- its trials

    def records(self, plan: Plan) -> Records:
        """The records of the finished trials of a plan."""
        complete = oldest_by_key(self._trials(), "COMPLETE")

        def finished(specs: list[Spec]) -> Records:
            return {s: self._record(t) for s in specs if (t := complete.get(plan.key(s)))}

        records = finished(plan.tuning_trials())
        return records | finished(plan.next_trials(records))

    def claim(self, plan: Plan, specs: Iterable[Spec]) -> ClaimedTrial | None:
        """Claim a trial of `specs` for this process; None if others run or have finished all.

        It queues the trials that were never queued, and requeues the trials of dead workers.
        """
        self._fail_dead_trials()
        wanted = {plan.key(spec): spec for spec in specs}
        queued = oldest_by_key(self._trials(), *NOT_FAILED)
        for key, spec in wanted.items():
            if key not in queued:
                self._queue(waiting_trial(plan, key, spec))
        for trial in self._trials():
            key = trial.user_attrs["key"]
            if trial.state.name == "WAITING" and key in wanted:
                claim = ClaimedTrial(trial._trial_id, key, wanted[key])
                with suppress(ClaimLostError):
                    if self._take(claim, trial.number):
                        return claim
        return None

    def run_by(self, pid: int) -> str | None:
        """A description of the trial that a process of this machine runs, or ran when it ended."""
        for trial in self._trials():
            about = trial.user_attrs
            owner = parse_owner(about.get("owner"))
            owned = owner and (owner["machine"], owner["pid"]) == (machine_id(), pid)
            if trial.state.name == "RUNNING" and owned:
                return f"{about['optimizer']}'s {about['phase']} trial of seed {about['seed']}"
        return None

    def beat(self, claim: ClaimedTrial) -> None:
        """Record a heartbeat.

        Raises:
            ClaimLostError: the trial has been given to another worker.
        """
        if self.storage.get_trial(claim.id).state.is_finished():
            raise ClaimLostError
        self.rdb.record_heartbeat(claim.id)

    def finish(self, claim: ClaimedTrial, record: Record) -> None:
        """Store the record of a trial.

        Raises:
            ClaimLostError: the trial has been given to another worker.
        """
        text, stored = encode_record(record), self.storage.get_trial(claim.id)
        if stored.state.name == "COMPLETE" and stored.user_attrs["record"] == text:
            return  # an earlier try was committed before the database disconnected
        with claim_checked():
            self.storage.set_trial_user_attr(claim.id, "record", text)
            states = optuna().trial.TrialState
            self.storage.set_trial_state_values(claim.id, states.COMPLETE, [record["score"]])

    def give_back(self, claim: ClaimedTrial) -> None:
        """Release the trial, so that another worker can claim it."""
        with suppress(ClaimLostError):
            self._fail(claim.id, "given back")

    def _record(self, trial: FrozenTrial) -> Record:
        if trial.number not in self.read_records:
            with self._readable(f"trial {trial.number}"):
                self.read_records[trial.number] = decode_record(trial.user_attrs.get("record"))
        return self.read_records[trial.number]

    def undamaged(self) -> AbstractContextManager[None]:
        """Turns errors of a damaged database into a DamagedError that says what to do."""
        return undamaged(self.url)

    def _readable(self, what: str) -> AbstractContextManager[None]:
        return readable(what, self.name, self.url)

    def retry(self, act: Callable[[], Any]) -> Any:
        """The result of `act`, which is called again while the database is unavailable.

        Raises:
            Exception: one of `database_errors()`, after some time.
        """
        return retry(act, self.patience_s)

    def _trials(self) -> list[FrozenTrial]:
        """The study's trials without those that another program may have added."""
        with self.undamaged():
            number = self.storage.get_study_id_from_name(self.name)
        with self._readable("a trial"):
            trials = self.storage.get_all_trials(number, deepcopy=False)
        return [trial for trial in trials if isinstance(trial.user_attrs.get("key"), str)]

    def _queue(self, trial: FrozenTrial) -> None:
        self.storage.create_new_trial(self.storage.get_study_id_from_name(self.name), trial)

    def _take(self, claim: ClaimedTrial, number: int) -> bool:
        """Set the trial to RUNNING; return whether this process may run it.

        Raises:
            ClaimLostError: the trial has ended meanwhile.
        """
        self.beat(claim)  # first, so that others notice if this process dies after the next line
        self.unsure.add(claim.id)
        with claim_checked():
            if not self.storage.set_trial_state_values(claim.id, optuna().trial.TrialState.RUNNING):
                return False
            self.storage.set_trial_user_attr(claim.id, "owner", current_owner())
        oldest = oldest_by_key(self._trials(), *NOT_FAILED).get(claim.key)
        if oldest is None or oldest.number == number:
            self.unsure.remove(claim.id)
            return True
        self._fail(claim.id, "queued twice")
        return False

    def _fail_dead_trials(self) -> None:
        """Fail the trials of dead workers, and trials that this process claimed without notice."""
        number = self.storage.get_study_id_from_name(self.name)
        self.liveness.update(self.rdb._get_stale_trial_ids(number))
        for trial in self._trials():
            if trial.state.name != "RUNNING":
                continue
            trial_id, owner = trial._trial_id, parse_owner(trial.user_attrs.get("owner"))
            dead = self.liveness.is_dead(trial_id, owner)
            unnoticed = trial_id in self.unsure and owner == current_owner()
            if dead or unnoticed:
                with suppress(ClaimLostError):
                    self._fail(trial_id, "its worker died" if dead else "the database was away")

    def _fail(self, trial_id: int, why: str) -> None:
        with claim_checked():
            self.storage.set_trial_user_attr(trial_id, "why", why)
            self.storage.set_trial_state_values(trial_id, optuna().trial.TrialState.FAIL)
