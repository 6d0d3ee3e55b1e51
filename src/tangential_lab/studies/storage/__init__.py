"""A study's plan and trials in a database, shared by any number of workers.

store     the plan; claims, heartbeats and records of trials
trials    Optuna's trials, claims on them, and whether their workers are alive
records   the record of a trial as text
database  opening SQLite files and servers, and what is wrong with them
urls      URLs of databases, shown without passwords
"""

from tangential_lab.studies.storage.database import BEAT_S, database_errors
from tangential_lab.studies.storage.records import parse_record
from tangential_lab.studies.storage.store import PATIENCE_S, Store
from tangential_lab.studies.storage.trials import ClaimedTrial, ClaimLostError
from tangential_lab.studies.storage.urls import command_without_passwords, file_url

__all__ = [
    "BEAT_S",
    "PATIENCE_S",
    "ClaimLostError",
    "ClaimedTrial",
    "Store",
    "command_without_passwords",
    "database_errors",
    "file_url",
    "parse_record",
]
