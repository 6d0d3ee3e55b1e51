"""Studies: optimizers tuned equally and compared on the same seeds, by any number of workers."""

from tangential_lab.studies.database import database_errors, file_url
from tangential_lab.studies.engine import quasi_random_points
from tangential_lab.studies.plan import FIRST_TEST_SEED, Plan, PlannedOptimizer
from tangential_lab.studies.pool import StudyFailedError
from tangential_lab.studies.store import Store
from tangential_lab.studies.study import (
    StudyRequest,
    interruptible,
    make_plan,
    planned_optimizer,
    run_study,
)
from tangential_lab.studies.worker import TrialFailedError, WorkerOptions, entry_for, run_worker

__all__ = [
    "FIRST_TEST_SEED",
    "Plan",
    "PlannedOptimizer",
    "Store",
    "StudyFailedError",
    "StudyRequest",
    "TrialFailedError",
    "WorkerOptions",
    "database_errors",
    "entry_for",
    "file_url",
    "interruptible",
    "make_plan",
    "planned_optimizer",
    "quasi_random_points",
    "run_study",
    "run_worker",
]
