"""Studies: optimizers tuned equally and compared on the same seeds, by any number of workers.

plan        which optimizers are compared, and how
changes     what a new plan changes in a study that has trials
search      the tuning points: a grid, or quasi-random points
tuning      the trials of the search, and its best points
schedule    which trials a study has, given those that are finished
rehearsal   the first steps of every optimizer, before the study starts
request     what a user asks of a study
study       a plan from a user's request, and running it on this machine
storage     the plan and the trials in a database that workers share
workers     the processes that run trials
provenance  how a record was produced, and what must be equal within a study
typed_json  JSON checked against type hints
"""

from tangential_lab.studies import schedule as schedule
from tangential_lab.studies import tuning as tuning
from tangential_lab.studies.plan import LEAST_DECAY, Plan, PlannedOptimizer
from tangential_lab.studies.rehearsal import Estimate, rehearse
from tangential_lab.studies.request import StudyRequest
from tangential_lab.studies.storage.database import check_storage, database_errors
from tangential_lab.studies.storage.store import STARTING_S, Store
from tangential_lab.studies.storage.urls import file_url
from tangential_lab.studies.study import make_plan, run_study
from tangential_lab.studies.workers.pool import StudyFailedError
from tangential_lab.studies.workers.worker import (
    TrialFailedError,
    WorkerOptions,
    entry_for,
    run_worker,
)
