"""The commands that begin a study, work on it, judge it and show it."""

import os
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from tangential.backends import native
from tangential_lab import experiments as tasks
from tangential_lab.cli import printed
from tangential_lab.cli.display import Display
from tangential_lab.errors import TRACEBACK, check_folder, one_line, reported
from tangential_lab.names import one_of
from tangential_lab.reports.report import report, together, write
from tangential_lab.studies import study
from tangential_lab.studies.database import failures, file_url
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.pool import Ended
from tangential_lab.studies.store import Store
from tangential_lab.studies.study import StudyRequest, interruptible
from tangential_lab.studies.worker import Failed, Place, work
from tangential_lab.training.cores import cores
from tangential_lab.training.optimizers import DEFAULT, OPTIMIZERS

OUT = Path("runs")
KEPT = "Finished trials are kept: the same command goes on from here."
MOST = 10_000  # a number beyond it is a slip of the keyboard, and would never end
Count = Annotated[int, Parameter(validator=Number(gte=1, lte=MOST))]
Whole = Annotated[int, Parameter(validator=Number(gte=0, lte=MOST))]
Processes = Annotated[int, Parameter(validator=Number(gte=0, lte=1024))]
Threads = Annotated[int, Parameter(validator=Number(gte=1, lte=1024))]
Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]
Url = Annotated[str | None, Parameter(env_var="TANGENTIAL_STORAGE")]
Many = Parameter(consume_multiple=True, negative=())
OURS = Parameter(validator=one_of(OPTIMIZERS, "optimizer"))


def compare(
    task: Annotated[str, Parameter(validator=one_of(tasks.NAMES, "task"))],
    /,
    *,
    preset: str | None = None,
    set: Annotated[list[str], Many] = [],  # noqa: A002, B006
    optimizers: Annotated[list[str], OURS, Many] = [*DEFAULT],  # noqa: B006
    optimizer: Annotated[list[str], Many] = [],  # noqa: B006
    trials: Whole = 16,
    seeds: Count = 5,
    epochs: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1_000_000))] = None,
    undecayed: bool = False,
    workers: Processes | None = None,
    threads: Threads = 1,
    precision: Literal["no", "bf16", "fp16"] = "no",
    sharded: bool = False,
    study: str | None = None,
    storage: Url = None,
    data: Path | None = None,
    out: Path = OUT,
    checkpoint_s: Annotated[float, Parameter(validator=Number(gte=0))] = 60.0,
) -> None:
    """Tune every optimizer equally, run the best of each on the same seeds, and report.

    Ctrl-C stops; the same command goes on from there, also after a kill or a power failure.
    Under torchrun or accelerate launch, the processes work on every trial together.

    Args:
        task: What to train: see `tangential list`.
        preset: mini (minutes on one core, the default) or paper (the published set-up).
        set: Options of the task, as name=value: see `tangential list`.
        optimizers: Optimizers to compare.
        optimizer: More of them, your own: name=module:factory or name=FILE.py:FACTORY, where
            factory(params, lr, weight_decay) returns an optimizer. `params` are groups, dicts
            with "params", as torch's optimizers take them. FILE.py is run, here and by workers,
            and each optimizer is tried once before the study starts.
        trials: Tuning trials per optimizer, at the same quasi-random points; with 0 every optimizer
            runs at the task's published settings.
        seeds: Report seeds, the same for all.
        epochs: Length of every trial; by default the task's own.
        undecayed: Run every optimizer once more on every seed at its baseline's lr, without decay.
        workers: Processes on this machine, a core or GPU each; by default all. With 0,
            workers elsewhere are waited for.
        threads: Threads of a worker; another number may change the last digit of every result.
        precision: Of the matrix products.
        sharded: Spread weights over the processes of a trial (FSDP2), not copies (DDP).
        study: Name of the study; by default the task and its options.
        storage: Database for workers on several machines, as postgresql://user@host/name; by
            default a file in the study's folder.
        data: Folder that holds a folder for each data set; by default TANGENTIAL_DATA.
        out: Folder for the study's folder.
        checkpoint_s: Seconds between checkpoints of a trial.
    """
    console = Console()
    with _reported():
        chosen = tasks.parse_options(task, [*([f"preset={preset}"] if preset else []), *set])
        request = StudyRequest(
            *(
                task,
                chosen,
                tuple(dict.fromkeys(optimizers)),
                _own(optimizer),
                trials,
                seeds,
                epochs,
            ),
            *(undecayed, precision, threads, sharded),
        )
        name = name_of(task, chosen) if study is None else _named(study)
        check_folder(out / name)
        store = Store(storage, name) if storage else _stored(out / name)
        place = Place(data, out / name, checkpoint_s)
        if reason := native.reason():
            console.print(f"Note: {reason}; until then trials run on foreach.", highlight=False)
        with store.undamaged():
            _compare(request, store, place, _devices() if workers is None else workers, console)


def _devices() -> int:
    """The GPUs of this machine, or without any its cores."""
    import torch

    return torch.cuda.device_count() or cores()


def _compare(
    request: StudyRequest, store: Store, place: Place, workers: int, console: Console
) -> None:
    leads = os.environ.get("RANK", "0") == "0"
    if leads:
        with warnings.catch_warnings(record=True) as caught:
            plan = study.planned(request, tasks.make(request.task, place.data, request.options))
        for warning in caught:
            note = one_line(warning.message).removesuffix(".")
            console.print(f"Note: {note}.", highlight=False, markup=False)
        store.begin(plan)
    if "WORLD_SIZE" in os.environ:
        _together(store, place, console, leads=leads)
    else:
        plan = store.plan()
        with Display(plan, console) as display, interruptible(display.stopping) as stop:
            for records in study.run(store, plan, place, workers, stop, display.say):
                display.show(records)
    if leads:
        _conclude(store, store.plan(), place.folder, console)


def _together(store: Store, place: Place, console: Console, *, leads: bool) -> None:
    """Work as one of the processes of every trial."""
    from tangential_lab.training.distributed import here, leave

    here().wait_for_everyone()  # until the first has begun the study
    with Display(store.plan(), console) as display, interruptible(display.stopping) as stop:
        work(store, place, stop.is_set, display.say, display.show if leads else lambda _: None)
    leave()
    if stop.is_set():
        raise KeyboardInterrupt


def worker(
    study: str,
    /,
    *,
    storage: Url = None,
    data: Path | None = None,
    out: Path = OUT,
    checkpoint_s: Annotated[float, Parameter(validator=Number(gte=0))] = 60.0,
) -> None:
    """Run trials of a study until none is left, beside all its other workers, here or elsewhere.

    Ctrl-C saves the trial under way and gives it to another. A worker trusts the database: it
    runs the optimizers' files that the study names, if they are here and have not changed.

    Args:
        study: Its name, or its folder.
        storage: Its database, where it is not the file in its folder.
        data: Folder that holds a folder for each data set; by default TANGENTIAL_DATA.
        out: Folder that holds the study's folder.
        checkpoint_s: Seconds between checkpoints of a trial; another worker on this machine, or
            one that shares this folder, goes on from the last.
    """
    console = Console()
    with reported(Failed, *failures(), hint=f"{KEPT} {TRACEBACK}=1 shows the traceback."):
        folder, store = _found(study, storage, out)
        plan = store.plan()
        place = Place(data, folder, checkpoint_s)
        with (
            store.undamaged(),
            Display(plan, console) as display,
            interruptible(display.stopping) as stop,
        ):
            work(store, place, stop.is_set, display.say, display.show)


def report_(studies: list[str], /, *, storage: Url = None, out: Path = OUT) -> None:
    """Judge one study, or several together.

    Args:
        studies: Their names, or their folders.
        storage: Their database, where it is not the file in each one's folder.
        out: Folder that holds the studies' folders.
    """
    console, reports = Console(), []
    with _reported():
        for name in studies:
            folder, store = _found(name, storage, out)
            plan = store.plan()
            with store.undamaged():
                reports.append(_conclude(store, plan, folder, console))
        if len(reports) > 1:
            _list(together(reports, out), console)


def watch(study: str, /, *, storage: Url = None, out: Path = OUT, port: Port = 0) -> None:
    """Serve a study's page on this machine while it runs.

    Args:
        study: Its name, or its folder.
        storage: Its database, where it is not the file in its folder.
        out: Folder that holds the study's folder.
        port: Of the page; by default one that is free.
    """
    from tangential_lab.cli.watch import watch as serve

    with _reported():
        _, store = _found(study, storage, out)
        store.plan()
        serve(lambda: ((plan := store.plan()), store.records(plan)), port)


def list_() -> None:
    """Name the tasks, with their options, and the optimizers."""
    printed.print_list(Console())


def name_of(task: str, options: dict[str, Any]) -> str:
    """A study's name: its task and what differs from the defaults.

    >>> name_of("digits", {})
    'digits'
    """
    defaults = {name: option.default for name, option in tasks.options(task).items()}
    chosen = {k: v for k, v in options.items() if v != defaults[k]}
    parts = [k if v is True else f"no-{k}" if v is False else str(v) for k, v in chosen.items()]
    return "-".join([task, *parts])


def _own(given: list[str]) -> dict[str, str]:
    own = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not (name and equals and source):
            raise ValueError(f"--optimizer is {text!r}, allowed is name=module:factory")
        if name in own:
            raise ValueError(f"two --optimizer are named {name!r}: give each a name of its own")
        own[name] = source
    return own


def _stored(folder: Path, *, create: bool = True) -> Store:
    """The store in a study's folder. The study keeps its name if the folder is renamed."""
    store = Store(file_url(folder / "study.db"), folder.resolve().name, create=create)
    names = store.names()
    store.name = names[0] if len(names) == 1 else store.name
    return store


def _named(study: str) -> str:
    """A study's name, which is its folder's, too."""
    if study in ("", "..") or Path(study).name != study:
        raise ValueError(
            f"study must be the name of one folder, got {study!r}: "
            "choose the folder that it is in by --out"
        )
    return study


def _found(study: str, storage: str | None, out: Path) -> tuple[Path, Store]:
    """A study's folder and store; it is not made here."""
    folder = Path(study)
    if not (folder / "study.db").is_file():
        folder = out / _named(study)
    if storage:
        return folder, Store(storage, folder.resolve().name, create=False)
    if not (folder / "study.db").is_file():
        raise ValueError(f"there is no study {study!r}: {folder / 'study.db'} is not there")
    return folder, _stored(folder, create=False)


def _conclude(store: Store, plan: Plan, folder: Path, console: Console) -> Any:
    check_folder(folder)
    result = report(plan, store.records(plan))
    paths = write(result, folder)
    printed.print_report(result, console)
    _list(paths[:1], console)
    return result


def _list(paths: list[Path], console: Console) -> None:
    for path in paths:
        console.print(str(path.resolve()), soft_wrap=True, highlight=False, markup=False)


def _reported() -> AbstractContextManager[None]:
    return reported(Ended, Failed, *failures(), hint=KEPT)
