"""A study: its plan, its workers on this machine, and what they are told when something happens."""

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Event
from typing import Any, NamedTuple

from tangential.lab import provenance
from tangential.lab.crew import Crew, Ended
from tangential.lab.plan import Contender, Plan, Records
from tangential.lab.rivals import RIVALS, Rival, grouped, of_user, space_of, untuned
from tangential.lab.store import Store
from tangential.lab.task import Task
from tangential.lab.worker import Place

AUDITED = 3, 16  # batches, and samples of each
POLL_S = 0.5


class Wishes(NamedTuple):
    """What the user wants compared."""

    task: str
    options: dict[str, Any]
    rivals: tuple[str, ...]
    own: dict[str, str]  # the user's rivals: name -> source
    trials: int
    seeds: int
    epochs: float | None
    undecayed: bool
    precision: str
    threads: int
    sharded: bool


def planned(wishes: Wishes, task: Task) -> Plan:
    """The plan for these wishes; audits the task's model.

    Raises:
        ValueError: a rival of the user's is not to be had, or named as one of ours, or a part of
            the model would never be trained.
    """
    if wishes.epochs is not None and wishes.epochs <= task.held:
        raise ValueError(
            f"epochs is {wishes.epochs:g}, allowed with {task.name} are more than {task.held:g}: "
            "so long a part of its weights is held"
        )
    for name in wishes.own:
        if name in RIVALS:
            raise ValueError(f"rival {name!r} is the laboratory's own: choose another name")
    scale_invariant = invariant(task)
    restarted = _tried(wishes, task, frozenset(scale_invariant)) if wishes.own else {}
    own = {name: of_user(i, name, source) for i, (name, source) in enumerate(wishes.own.items())}
    for name, rival in own.items():
        if rival.baseline is not None and (
            rival.baseline == name or rival.baseline not in RIVALS | own
        ):
            raise ValueError(
                f"{name}.baseline is {rival.baseline!r}, expected another optimizer: "
                f"{', '.join([*RIVALS, *(n for n in own if n != name)])}"
            )
    contenders = {
        name: contender(task, rival, wishes.own.get(name, ""), resumes=name not in restarted)
        for name, rival in ({n: RIVALS[n] for n in wishes.rivals} | own).items()
    }
    return Plan(
        task=wishes.task,
        options=wishes.options,
        about=task.about,
        data=list(task.data),
        metric=task.metric,
        rivals=contenders,
        trials=wishes.trials,
        seeds=wishes.seeds,
        undecayed=wishes.undecayed,
        epochs=wishes.epochs or task.epochs,
        batch_size=task.batch_size,
        invariant=scale_invariant,
        settings={
            "precision": wishes.precision,
            "threads": wishes.threads,
            "sharded": wishes.sharded,
            "versions": provenance.versions(),
            "source": provenance.source(wishes.task),
        },
    )


def contender(task: Task, rival: Rival, source: str, *, resumes: bool = True) -> Contender:
    """What the plan knows of a rival."""
    space, point = space_of(rival, task.published), untuned(rival, task.published)
    about, baseline, colour = rival.about, rival.baseline, rival.colour
    return Contender(source, about, baseline, colour, space, point, resumes)


def _tried(wishes: Wishes, task: Task, scale_invariant: frozenset[str]) -> dict[str, str]:
    """Try the user's optimizers on such groups as the trials have; warn of those not resumable.

    Raises:
        ValueError: one cannot be loaded, built or stepped.
    """
    import torch

    from tangential.lab import preflight

    with torch.random.fork_rng():
        model = task.model()
    groups = preflight.shapes(grouped(task.groups(model), model, scale_invariant, 1.0))
    found = preflight.unresumable(preflight.Request(wishes.own, dict(task.published), groups))
    for name, reason in found.items():
        warnings.warn(
            f"optimizer {name!r} does not continue from its state_dict ({reason}): its trials "
            "start again from the beginning if they are interrupted. Its steps may use only what "
            "is in state_dict(), and the global generators of torch, NumPy and random",
            stacklevel=2,
        )
    return found


def invariant(task: Task) -> list[str]:
    """Names of the weights that the audit proves scale-invariant, by row or as a whole."""
    import torch

    from tangential import audit
    from tangential.lab.batches import Part, training

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.model()
        count, size = AUDITED
        few = Part(0, max(1, task.batch_size // size))
        batches = list(islice(training(task._replace(loaders=0), 0, 0, few), count))
        try:
            found = audit(model, batches, loss=task.audited or task.loss)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            warnings.warn(f"{task.name}'s weights cannot be audited: {error}", stacklevel=2)
            return []
    return [*found.names("row"), *found.names("weight")]


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets; it calls `stopping`, a second is as usual.

    As an exception the first could fall into the saving of a trial.
    """
    stop, usual = Event(), {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def first(*_: Any) -> None:
        stop.set()
        stopping()
        for number, handler in usual.items():
            signal.signal(number, handler)

    for number in usual:
        signal.signal(number, first)
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def run(
    store: Store, plan: Plan, place: Place, workers: int, stop: Event, say: Callable[[str], Any]
) -> Iterator[Records]:
    """Let workers on this machine run the plan; yield its records, and whenever there are new ones.

    A worker that dies is replaced, and another takes its trial. Where `workers` is 0, others
    elsewhere are waited for.

    Raises:
        KeyboardInterrupt: `stop` was set before the last trial.
        Ended: a trial raised, workers die again and again, or another command has begun the
            study with another plan.
    """
    records = store.records(plan)
    yield records
    crew = Crew(store, place, say)
    try:
        crew.hire(workers if len(records) < plan.size else 0)
        while not stop.is_set() and len(records) < plan.size:
            time.sleep(POLL_S)
            left = crew.left()  # first: who leaves after the last trial is not missed
            if store.patiently(store.plan).text() != plan.text():
                raise Ended("the study has been given another plan, by another command")
            new = store.patiently(lambda: store.records(plan))
            if len(new) > len(records):
                records = new
                yield records
            if len(records) < plan.size:
                crew.replace(left, workers)
    except KeyboardInterrupt:
        crew.kill()
        raise
    finally:
        crew.dismiss()
    if len(records) < plan.size:
        raise KeyboardInterrupt
