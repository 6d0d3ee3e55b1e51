"""Studies: optimizers tuned equally and compared on the same seeds, by any number of workers.

request, plan, changes     what a user asks; who is compared, and how; what a new plan changes
search, tuning, schedule   tuning points; the trials of the search; all trials, given finished ones
rehearsal, study           the first steps of every optimizer; a whole study on this machine
storage, workers           the database that workers share; the processes that run trials
provenance, typed_json     how a record was produced; JSON checked against type hints
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
