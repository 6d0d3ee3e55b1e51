"""Where a study's trials are kept, and how workers share them: Optuna's own database.

A trial of the store is WAITING, RUNNING, COMPLETE (with its record) or FAIL: left by a worker that
died or stopped, or a double. Of the living ones with one key, the first counts; so nobody needs a
lock to queue what a plan still lacks, and nothing is lost whenever a worker dies.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from tangential_lab.studies.database import (
    OPENING_S,
    damage_report,
    database_errors,
    is_file,
    open_storage,
    without_password,
)
from tangential_lab.studies.engine import optuna
from tangential_lab.studies.owners import LivenessMonitor, current_owner, machine_id
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.stored import decode_record, encode_record, parse_owner
from tangential_lab.training import Record, Records, Spec

BEAT_S = 15  # seconds between a running trial's signs of life
GRACE_S = 60  # without one it is missed
WATCH_S = 2 * BEAT_S  # that one is missed before it is dead
# what reading what another program wrote may raise
DAMAGE = (ValueError, TypeError, LookupError, AssertionError, AttributeError, RecursionError)
PATIENCE_S = 300  # with a server that is gone

Frozen = Any  # optuna.trial.FrozenTrial


class ClaimedTrial(NamedTuple):
    """A trial that this process runs."""

    id: int
    key: str
    spec: Spec


class DamagedError(ValueError):
    """The database is damaged, or another program has changed it."""


class ClaimLostError(Exception):
    """The trial has been given to another worker, this one being taken for dead."""


class Store:
    """The trials of a study.

    Args:
        url: Of the database, in SQLAlchemy's form: sqlite:///FILE or postgresql://...
        name: Of the study.
        wait_s: Seconds to wait for a server that is just starting.
        create: Create the file and its tables if they do not exist.

    Raises:
        ValueError: the database cannot be opened, does not exist, or belongs to another program.
    """

    def __init__(
        self, url: str, name: str, wait_s: float = OPENING_S, *, create: bool = True
    ) -> None:
        self.url, self.name = url, name
        self.rdb = open_storage(url, beat_s=BEAT_S, grace_s=GRACE_S, wait_s=wait_s, create=create)
        self.storage = optuna().storages.get_storage(self.rdb)
        self.unpacked: dict[int, Record] = {}
        self.lookout = LivenessMonitor(WATCH_S)
        self.unsure: set[int] = set()  # trials that the database went away from as we took them
        self.patience_s = 10 if is_file(url) else PATIENCE_S

    def close(self) -> None:
        """Let the database go."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()

    # ---- the plan

    def exists(self) -> bool:
        """Whether there is such a study."""
        return self.name in self.names()

    def names(self) -> list[str]:
        """The studies of this database."""
        with self._readable("the list of studies"):
            return sorted(map(str, optuna().get_all_study_names(self.storage)))

    def begin(self, plan: Plan) -> None:
        """Make the study, or give it another plan; trials that this has, too, are kept."""
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
            attributes = self._study.user_attrs
        if "plan" not in attributes:
            raise ValueError(
                f"study {self.name!r} in {url} has no plan: `tangential compare` did not make it"
            )
        with self._readable("the plan"):
            return Plan.of(attributes["plan"])

    @property
    def _study(self) -> Any:
        return optuna().load_study(study_name=self.name, storage=self.storage)

    # ---- its trials

    def records(self, plan: Plan) -> Records:
        """The finished trials of a plan."""
        by_key = {
            trial.user_attrs["key"]: trial
            for trial in reversed(self._trials())
            if trial.state.name == "COMPLETE"
        }

        def known(specs: list[Spec]) -> Records:
            return {s: self._record(t) for s in specs if (t := by_key.get(plan.key(s)))}

        records = known(plan.tuning_trials())
        return records | known(plan.next_trials(records))

    def claim(self, plan: Plan, specs: Iterable[Spec]) -> ClaimedTrial | None:
        """A trial of `specs` that nobody runs or has run, and is now this process's; or None.

        Trials of the dead are queued again, and so is whatever the queue lacks.
        """
        self._fail_dead_trials()
        wanted = {plan.key(spec): spec for spec in specs}
        living = _living(self._trials())
        for key, spec in wanted.items():
            if key not in living:
                self._queue(plan, key, spec)
        for trial in self._trials():
            key = trial.user_attrs["key"]
            if trial.state.name == "WAITING" and key in wanted:
                claim = ClaimedTrial(trial._trial_id, key, wanted[key])
                with suppress(ClaimLostError):
                    if self._won(claim, trial.number):
                        return claim
        return None

    def run_by(self, pid: int) -> str | None:
        """The trial that this process of this machine runs, or ran when it ended."""
        here = machine_id()
        for trial in self._trials():
            about = trial.user_attrs
            ran = parse_owner(about.get("owner")) or {}
            if trial.state.name == "RUNNING" and (ran.get("machine"), ran.get("pid")) == (
                here,
                pid,
            ):
                return f"{about['optimizer']}'s {about['phase']} trial of seed {about['seed']}"
        return None

    def beat(self, claim: ClaimedTrial) -> None:
        """Give a sign of life.

        Raises:
            Taken: too late.
        """
        if self.storage.get_trial(claim.id).state.is_finished():
            raise ClaimLostError
        self.rdb.record_heartbeat(claim.id)

    def finish(self, claim: ClaimedTrial, record: Record) -> None:
        """Keep a trial's record; if the database went away before it said so, it is kept already.

        Raises:
            Taken: another has it.
        """
        text, found = encode_record(record), self.storage.get_trial(claim.id)
        if found.state.name == "COMPLETE" and found.user_attrs["record"] == text:
            return
        with _still_ours():
            self.storage.set_trial_user_attr(claim.id, "record", text)
            states = optuna().trial.TrialState
            self.storage.set_trial_state_values(claim.id, states.COMPLETE, [record["score"]])

    def give_back(self, claim: ClaimedTrial) -> None:
        """Let another worker have the trial."""
        with suppress(ClaimLostError):
            self._drop(claim.id, "given back")

    def _record(self, trial: Frozen) -> Record:
        if trial.number not in self.unpacked:
            with self._readable(f"trial {trial.number}"):
                self.unpacked[trial.number] = decode_record(trial.user_attrs.get("record"))
        return self.unpacked[trial.number]

    @contextmanager
    def undamaged(self) -> Iterator[None]:
        """Turns errors of a database that is damaged into one that says what to do."""
        try:
            yield
        except database_errors() as error:
            if text := damage_report(error, self.url):
                raise DamagedError(text) from error
            raise

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        """Turns errors of reading a damaged database into one that says what to do."""
        try:
            with self.undamaged():
                yield
        except DamagedError:
            raise
        except DAMAGE as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(
                f"{what} of study {self.name!r} in {without_password(self.url)} cannot be read: "
                f"{reason}. Another program or another version of Tangential wrote it: use that "
                "version, restore a backup, or begin another study (--study NAME)"
            ) from error

    def patiently(self, act: Callable[[], Any]) -> Any:
        """What `act` returns, tried again while the database is gone.

        Raises:
            Exception: one of `failures()`, when patience is over.
        """
        deadline, pause_s = time.monotonic() + self.patience_s, 0.5
        while True:
            try:
                return act()
            except database_errors():
                if time.monotonic() > deadline:
                    raise
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 15.0)

    def _trials(self) -> list[Frozen]:
        """The study's trials without those that another program may have added."""
        with self.undamaged():
            number = self.storage.get_study_id_from_name(self.name)
        with self._readable("a trial"):
            trials = self.storage.get_all_trials(number, deepcopy=False)
        return [trial for trial in trials if isinstance(trial.user_attrs.get("key"), str)]

    def _queue(self, plan: Plan, key: str, spec: Spec) -> None:
        space = plan.optimizers[spec.optimizer].space
        float_ = optuna().distributions.FloatDistribution
        params = {k: v for k, v in spec.point if k in space and space[k][0] <= v <= space[k][1]}
        trial = optuna().trial.create_trial(
            state=optuna().trial.TrialState.WAITING,
            params=params,
            distributions={k: float_(*space[k], log=True) for k in params},
            user_attrs={
                "key": key,
                "optimizer": spec.optimizer,
                "phase": spec.phase,
                "seed": spec.seed,
            },
        )
        self.storage.create_new_trial(self.storage.get_study_id_from_name(self.name), trial)

    def _won(self, claim: ClaimedTrial, number: int) -> bool:
        """Whether this process, of all, has made the trial run.

        Raises:
            Taken: it has ended meanwhile.
        """
        self.beat(claim)  # first: whoever dies after the next line is missed in time
        self.unsure.add(claim.id)
        with _still_ours():
            if not self.storage.set_trial_state_values(claim.id, optuna().trial.TrialState.RUNNING):
                return False
            self.storage.set_trial_user_attr(claim.id, "owner", current_owner())
        first = _living(self._trials()).get(claim.key)
        if first is None or first.number == number:
            self.unsure.remove(claim.id)
            return True
        self._drop(claim.id, "a double")
        return False

    def _fail_dead_trials(self) -> None:
        """Fail the trials of the dead, and those that this process took without learning of it."""
        number = self.storage.get_study_id_from_name(self.name)
        self.lookout.miss(self.rdb._get_stale_trial_ids(number))
        for trial in self._trials():
            if trial.state.name != "RUNNING":
                continue
            trial_id, known = trial._trial_id, parse_owner(trial.user_attrs.get("owner"))
            dead = self.lookout.is_dead(trial_id, known)
            unheard = trial_id in self.unsure and known == current_owner()
            if dead or unheard:
                with suppress(ClaimLostError):
                    self._drop(trial_id, "its worker died" if dead else "the database was gone")

    def _drop(self, trial_id: int, why: str) -> None:
        with _still_ours():
            self.storage.set_trial_user_attr(trial_id, "why", why)
            self.storage.set_trial_state_values(trial_id, optuna().trial.TrialState.FAIL)


@contextmanager
def _still_ours() -> Iterator[None]:
    """Turns Optuna's word for a trial that has ended into ours."""
    try:
        yield
    except optuna().exceptions.UpdateFinishedTrialError as error:
        raise ClaimLostError from error


def _living(trials: list[Frozen]) -> dict[str, Frozen]:
    """The first trial of every key that waits, runs or is complete."""
    return {t.user_attrs["key"]: t for t in reversed(trials) if t.state.name != "FAIL"}
