"""Records, owners and plans as text, checked when they are read."""

import json
import random
import sqlite3

import made_study as made
import optuna
import pytest
from sqlalchemy.exc import OperationalError

from tangential_lab.reports import report
from tangential_lab.studies import tuning
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.storage import database
from tangential_lab.studies.storage.records import (
    decode_record,
    encode_record,
    parse_record,
)
from tangential_lab.studies.storage.trials import current_owner, parse_owner


def test_rows_of_layers_must_match_their_names():
    plan = made.plan()
    record = made.record(
        plan, tuning.tuning_trials(plan, {})[0], random.Random(0), 0.9, names=made.LAYERS
    )
    assert parse_record(json.dumps(record))["layers"]["names"] == made.LAYERS
    assert decode_record(encode_record(record)) == record
    record["layers"]["norm"][3] = record["layers"]["norm"][3][1:]
    with pytest.raises(ValueError, match=r"record.layers has rows that do not match its names"):
        parse_record(json.dumps(record))


def test_a_record_without_scale_invariant_weights():
    plan = made.plan()
    record = made.record(plan, tuning.tuning_trials(plan, {})[0], random.Random(0), 0.9)
    record |= dict.fromkeys(("norm", "effective_step", "memory_share"))
    record["curves"] = {name: record["curves"][name] for name in ("step", "loss", "lr")}
    assert decode_record(encode_record(record)) == record
    with pytest.raises(ValueError, match="has no norms of the scale-invariant weights"):
        report(plan, {tuning.tuning_trials(plan, {})[0]: record})  # the plan names such weights


def test_a_value_that_is_not_an_owner_gives_none():
    assert parse_owner(current_owner()) == current_owner()
    for value in (None, 5, {}, {"machine": "x"}, current_owner() | {"pid": "1"}):
        assert parse_owner(value) is None


def test_a_plan_comes_back_from_its_text():
    plan = made.plan()
    assert Plan.of(plan.text()) == plan


def test_temporary_errors_are_not_damage():
    def failure(text):
        error = optuna.exceptions.StorageInternalError("wrapped")
        error.__cause__ = OperationalError("SELECT 1", None, sqlite3.OperationalError(text))
        error.__cause__.__cause__ = error.__cause__.orig
        return error

    for text in ("database is locked", "disk I/O error", "database or disk is full"):
        assert database.damage_report(failure(text), "sqlite:////tmp/s.db") == ""
    damaged = database.damage_report(failure("no such table: x"), "sqlite:////tmp/s.db")
    assert damaged.startswith("sqlite:////tmp/s.db cannot be used: no such table: x. Restore")
    gone = OperationalError("SELECT 1", None, Exception("server closed the connection"))
    assert database.damage_report(gone, "postgresql://127.0.0.1:9/x") == ""
