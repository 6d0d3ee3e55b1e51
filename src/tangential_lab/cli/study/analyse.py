"""The command `tangential analyse`."""

from typing import Annotated

from tangential_lab.cli.parameters import Count, Many
from tangential_lab.cli.study.compare import KnownOptimizer, KnownTask, run_request
from tangential_lab.cli.study.location import (
    DEFAULT_FILES,
    DEFAULT_LOCATION,
    Location,
    TrialFiles,
    checked_name,
    study_errors,
)
from tangential_lab.cli.study.options import default_name, parse_sources
from tangential_lab.cli.study.settings import (
    DEFAULT_TASK_OPTIONS,
    DEFAULT_TRIAL_SETTINGS,
    NOTHING_GIVEN,
    GivenSettings,
    TaskOptions,
    TrialSettings,
)
from tangential_lab.studies import StudyRequest
from tangential_lab.training import ANALYSED_OPTIMIZERS


def analyse(
    task: KnownTask = "digits",
    /,
    *,
    task_options: TaskOptions = DEFAULT_TASK_OPTIONS,
    optimizers: Annotated[tuple[KnownOptimizer, ...], Many] = ANALYSED_OPTIMIZERS,
    optimizer: Annotated[tuple[str, ...], Many] = (),
    given: GivenSettings = NOTHING_GIVEN,
    seeds: Count = 3,
    trial_settings: TrialSettings = DEFAULT_TRIAL_SETTINGS,
    study: str | None = None,
    location: Location = DEFAULT_LOCATION,
    files: TrialFiles = DEFAULT_FILES,
) -> None:
    """Show what momentum, projection and weight decay do to norms, effective steps and scores.

    Every optimizer runs with and without weight decay, at the published settings of the task or at
    those of --lr and --weight-decay; nothing is tuned. With --weight-decay 0 it runs only without.
    The figure is that of the paper's analysis.

    Ctrl-C stops the study. The same command continues it, even after a power failure.

    Args:
        task: What to train: see `tangential list`; or your own, FILE.py:FUNCTION, as for
            `tangential compare`.
        task_options: Options of the task.
        optimizers: Optimizers to analyse.
        optimizer: Your own optimizers: name=module:factory or name=FILE.py:FACTORY, as for
            `tangential compare`.
        given: Settings in place of published ones.
        seeds: Number of seeds, the same for all optimizers.
        trial_settings: How long trials are, and how they are run.
        study: Name of the study; by default the task and its options, and "analysis".
        location: Where studies are stored.
        files: What a trial reads and saves.
    """
    with study_errors():
        request = StudyRequest(
            task=task,
            options=task_options.values(task),
            optimizers=tuple(dict.fromkeys(optimizers)),
            user_optimizers=parse_sources(optimizer),
            trials=0,
            seeds=seeds,
            epochs=trial_settings.epochs,
            undecayed=True,
            precision=trial_settings.precision,
            threads=trial_settings.threads,
            sharded=trial_settings.sharded,
            given=given.points(),
            analysis=True,
        )
        usual = f"{default_name(task, request.options)}-analysis"
        name = usual if study is None else checked_name(study)
        run_request(request, name, trial_settings.workers, location, files)
