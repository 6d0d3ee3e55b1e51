"""Databases that others have written, changed or cut off: one line that says what to do."""

import json
import random
import re
import shutil
import sqlite3

import made_study as made
import optuna
import pytest

from tangential_lab.__main__ import main
from tangential_lab.cli.study.watch import WatchedStudy
from tangential_lab.studies import Store, schedule, tuning
from tangential_lab.studies.storage import database
from tangential_lab.studies.storage.records import (
    encode_record,
)

NAN = float("nan")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("good") / "s"
    folder.mkdir()
    store = Store(f"sqlite:///{folder}/study.db", "s")
    plan = made.plan(("sgd", "sgdp"), trials=2, seeds=2, undecayed=False)
    store.begin(plan)
    draw = random.Random(0)
    for phase in ("tune", "test"):
        for spec in schedule.missing(plan, store.records(plan)):
            names = made.LAYERS if phase == "test" else ()
            record = made.record(plan, spec, draw, 0.9, names=names)
            store.finish(store.claim(plan, [spec]), record)
    store.close()
    return folder


@pytest.fixture
def study(good, tmp_path, monkeypatch):
    """A copy of it that may be damaged, in the working directory's `runs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(database, "PAUSE_S", 0)
    shutil.copytree(good, tmp_path / "runs" / "s")
    return tmp_path / "runs" / "s" / "study.db"


def sql(path, *statements):
    connection = sqlite3.connect(path)
    for statement, *values in statements:
        connection.execute(statement, values)
    connection.commit()
    connection.close()


def status(*arguments):
    try:
        main(list(arguments))
    except SystemExit as exit_:
        return exit_.code or 0
    return 0


def refused(capsys, *arguments):
    """The line that says why a command stops."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (1, "")
    assert err.startswith("Stopped: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def change_plan(path, change):
    connection = sqlite3.connect(path)
    [(text,)] = connection.execute("SELECT value_json FROM study_user_attributes")
    connection.close()
    changed = json.dumps(json.dumps(change(json.loads(json.loads(text)))))
    sql(path, ["UPDATE study_user_attributes SET value_json=?", changed])


def recoloured(plan, colour):
    return plan | {"optimizers": {k: v | {"colour": colour} for k, v in plan["optimizers"].items()}}


@pytest.mark.slow
def test_an_undamaged_study_is_reported(study, capsys):
    assert status("report", "s") == 0
    assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "change", "words"),
    [
        (
            "report",
            lambda p: {k: p[k] for k in p if k not in ("epochs", "seeds")},
            "no seeds, epochs",
        ),
        ("worker", lambda p: p | {"new": 1}, "plan has an unknown field 'new'"),
        ("watch", lambda p: p | {"epochs": None}, "plan.epochs is None, expected a number"),
        ("report", lambda p: p | {"epochs": NAN}, "epochs is nan, expected a finite number > 0"),
        ("worker", lambda p: p | {"trials": "many"}, "trials is 'many', expected an integer"),
        ("watch", lambda p: p | {"trials": 10**400}, "expected an integer below 9.2e+18"),
        ("report", lambda p: p | {"trials": True}, "plan.trials is True, expected an integer"),
        ("worker", lambda p: p | {"seeds": 0}, "plan.seeds is 0, expected an integer >= 1"),
        ("watch", lambda p: p | {"data": ["x"]}, "data is ['x'], expected a description and a"),
        ("report", lambda p: p | {"optimizers": {"a": {"x": 1}}}, "optimizers.a has no source,"),
        ("worker", lambda p: p | {"metric": {"name": "x"}}, "plan.metric has no unit, chance"),
        ("watch", lambda p: recoloured(p, "[/]"), "colour '[/]', expected # and six digits"),
        ("report", lambda p: [p], "expected an object"),
        ("worker", lambda p: None, "plan is None, expected an object"),
    ],
)
@pytest.mark.slow
def test_a_plan_of_another_version(command, change, words, study, capsys):
    change_plan(study, change)
    line = refused(capsys, command, "s")
    assert "the plan of study 's' in sqlite:///" in line
    assert words in line
    assert "use that version, restore a backup, or begin another study (--study NAME)" in line


@pytest.mark.parametrize("text", ["{", "", "5", "[]", "null", '"{"', "[" * 100_000])
def test_a_plan_that_is_not_our_json(text, study, capsys):
    sql(study, ["UPDATE study_user_attributes SET value_json=?", text])
    assert "study 's' in sqlite:///" in refused(capsys, "report", "s")


def test_a_worker_needs_settings_that_a_page_does_not(study, capsys):
    assert "plan.settings has no sharded, versions, source" in refused(capsys, "worker", "s")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": None}, "record.score is None, expected a number"),
        ({"score": "high"}, "record.score is 'high', expected a number"),
        ({"score": NAN}, "record.score is nan, expected a finite number"),
        ({"step_s": float("inf")}, "record.step_s is inf, expected a finite number"),
        ({"steps": 10**400}, "expected an integer below 9.2e+18"),
        ({"diverged": 0}, "record.diverged is 0, expected true or false"),
        ({"curves": {}}, "record.curves has no step, loss, lr"),
        ({"scores": None}, "record.scores is None, expected an object"),
        ({"scores": {"step": [1], "time_s": [], "score": [0.5]}}, "columns of different lengths"),
        ({"layers": {"step": [1]}}, "record.layers has no names, norm, effective_step"),
        ({"metrics": {"loss": "x"}}, "record.metrics.loss is 'x', expected a number"),
        ({"provenance": {}}, "record.provenance has no time"),
    ],
)
@pytest.mark.slow
@pytest.mark.slow
def test_a_damaged_record(change, words, study, capsys):
    store = Store(f"sqlite:///{study}", "s")
    plan = store.plan()
    damaged = encode_record(next(iter(store.records(plan).values())) | change)
    store.close()
    where = "UPDATE trial_user_attributes SET value_json=? WHERE key='record' AND trial_id=2"
    sql(study, [where, json.dumps(damaged)])
    line = refused(capsys, "report", "s")
    assert "trial 1 of study 's' in sqlite:///" in line
    assert words in line
    again = Store(f"sqlite:///{study}", "s")
    page = WatchedStudy(lambda: (plan, again.records(plan))).page()
    assert "trial 1 of study" in page  # and the page keeps looking
    again.close()


@pytest.mark.parametrize("value", ["5", "null", "[1]", '"x"', '"~"', "{"])
def test_a_record_that_is_not_a_record(value, study, capsys):
    sql(study, ["UPDATE trial_user_attributes SET value_json=? WHERE key='record'", value])
    assert " of study 's' in sqlite:///" in refused(capsys, "report", "s")


def test_a_record_that_is_missing(study, capsys):
    sql(study, ["DELETE FROM trial_user_attributes WHERE key='record'"])
    assert "trial 0 of study 's'" in refused(capsys, "report", "s")


@pytest.mark.slow
def test_damage_to_every_column_of_the_database(study, capsys, monkeypatch):
    """Whatever a column contains, the study is reported, or refused in one line."""
    from tangential_lab.cli.study import report as command

    monkeypatch.setattr(command, "conclude", lambda store, *_: store.records(store.plan()))
    whole = study.read_bytes()
    connection = sqlite3.connect(study)
    tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    tables = [t for t in tables if connection.execute(f"SELECT 1 FROM {t}").fetchone()]
    columns = [(t, row[1]) for t in tables for row in connection.execute(f"PRAGMA table_info({t})")]
    connection.close()
    spoilt = refusals = 0
    for table, column in columns:
        for value in (None, "x", 5, "[]", b"\x00\xff"):
            study.unlink()  # connections to the last one may be open
            study.write_bytes(whole)
            try:
                sql(study, [f"UPDATE OR IGNORE {table} SET {column}=?", value])
            except sqlite3.IntegrityError:
                continue
            spoilt += 1
            refused_it = bool(status("report", "s"))
            err = capsys.readouterr().err
            assert "Unexpected" not in err, (table, column, value, err)
            assert (err.count("\n") == 1) is refused_it, (table, column, value, err)
            refusals += refused_it
    assert spoilt > 100
    assert refusals > 30


def test_another_schema_of_optuna(study, capsys):
    sql(study, ["UPDATE alembic_version SET version_num='v2.6.0.a'"])
    line = refused(capsys, "report", "s")
    assert "optuna storage upgrade" in line
    sql(study, ["UPDATE alembic_version SET version_num='v99.0.0.a'"])
    assert "updating optuna to the latest version" in refused(capsys, "watch", "s")


@pytest.mark.parametrize("size", [5000, 20_000])
def test_a_file_that_is_cut_off(size, study, capsys):
    study.write_bytes(study.read_bytes()[:size])
    line = refused(capsys, "report", "s")
    assert "database disk image is malformed" in line
    assert str(study) in line
    assert not re.search("SQL:|Background|sqlite3|Finished trials", line)


def test_files_that_are_no_database(study, capsys):
    study.write_bytes(b"hello" * 1000)
    assert "file is not a database" in refused(capsys, "report", "s")
    study.write_bytes(b"")
    assert "no study in " in refused(capsys, "worker", "s")
    assert not study.read_bytes()
    study.unlink()
    study.mkdir()
    assert "there is no study" in refused(capsys, "watch", "s")


def test_a_locked_file_is_waited_for_once(study, capsys, monkeypatch):
    monkeypatch.setattr(database, "WAIT_S", 0.1)
    monkeypatch.setattr(database.time, "sleep", lambda _: pytest.fail("tried again"))
    holder = sqlite3.connect(study, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert "database is locked" in refused(capsys, "report", "s")
    holder.close()


def test_a_study_of_another_program(study, capsys):
    url = f"sqlite:///{study}"
    theirs = optuna.create_study(storage=url, study_name="theirs")
    theirs.add_trial(optuna.trial.create_trial(value=1.0))
    line = refused(capsys, "report", "theirs", "--storage", url)
    assert "study 'theirs' in " in line
    assert "has no plan: `tangential compare` did not make it" in line
    store = Store(url, "theirs")
    with pytest.raises(ValueError, match=r"was not made by `tangential compare`: choose another"):
        store.begin(made.plan())
    store.close()
    assert "plan" not in theirs.user_attrs


def test_trials_of_another_program_are_ignored(study):
    url = f"sqlite:///{study}"
    ours = optuna.load_study(storage=url, study_name="s")
    ours.add_trial(optuna.trial.create_trial(value=1.0))
    ours.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"key": [1]}))
    store = Store(url, "s")
    plan = store.plan()
    assert len(store.records(plan)) == schedule.size(plan, {}) == 8
    assert store.claim(plan, tuning.tuning_trials(plan, {})) is None
    store.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "nope"}, "unknown task 'nope'. Known: digits"),
        ({"options": {"a": 1}}, "unknown digits option 'a'. Known: preset."),
        ({"options": {"preset": 3}}, "preset must be mini, got 3"),
    ],
)
def test_a_worker_of_a_task_that_is_unknown_here(changes, words, study, capsys):
    settings = {"precision": "no", "threads": 1, "sharded": False, "versions": {}, "source": ""}
    change_plan(study, lambda p: p | {"settings": settings} | changes)
    assert words in refused(capsys, "worker", "s")


def test_a_column_that_is_missing_is_damage(study, capsys):
    sql(study, ["ALTER TABLE trials RENAME COLUMN state TO status"])
    line = refused(capsys, "report", "s")
    assert line.startswith(
        f"Stopped: sqlite:///{study} cannot be used: no such column: trials.state"
    )
    assert line.endswith("Restore the database from a backup, or choose another --study or --out\n")
