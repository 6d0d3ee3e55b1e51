"""The command `tangential worker`."""

from rich.console import Console

from tangential_lab.cli.study.location import (
    DEFAULT_FILES,
    DEFAULT_LOCATION,
    WORKER_HINT,
    Location,
    TrialFiles,
    study_errors,
)
from tangential_lab.cli.study.progress import Display, interruptible
from tangential_lab.studies import WorkerOptions, run_worker


def worker(
    study: str,
    /,
    *,
    location: Location = DEFAULT_LOCATION,
    files: TrialFiles = DEFAULT_FILES,
) -> None:
    """Start a worker for a study, on any machine; it runs trials until none is left.

    Ctrl-C saves the current trial and leaves it to another worker. A worker trusts the database:
    it runs the files of optimizers that the study names, if they exist here and are unchanged.

    Args:
        study: Name of the study, or its folder.
        location: Where studies are stored.
        files: What a trial reads and saves.
    """
    with study_errors(WORKER_HINT):
        folder, store = location.open(study)
        plan = store.plan()
        worker_options = WorkerOptions(files.data, folder, files.checkpoint_s)
        with (
            store.undamaged(),
            Display(plan, Console()) as display,
            interruptible(display.stopping) as stop,
        ):
            run_worker(
                store, worker_options, stop.is_set, display.say, display.show, display.show_share
            )
