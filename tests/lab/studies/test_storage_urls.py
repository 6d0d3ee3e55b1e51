"""A study's database: its file is in the study's folder, its password is never shown."""

import re
import sqlite3
import sys

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from tangential_lab.cli.app import app
from tangential_lab.cli.study.location import Location, stored_in
from tangential_lab.studies import Store
from tangential_lab.studies.search import optuna
from tangential_lab.studies.storage import database
from tangential_lab.studies.storage.urls import (
    command_without_passwords,
    file_url,
    without_password,
)

NAMES = (
    *("a?1", "a?2", "a#1", "a#2", "a%20b", "a b", "%", "a%2Fb", "{x}", "{", "a&b=c", "a@b:c"),
    *("ä", "file:x?mode=memory", ":memory:", "a\\b", "'", '"', "a\nb", "a+b", "$HOME", "-x", "~"),
)


def made(folder):
    """A store with an empty study of its folder's name."""
    store = stored_in(folder)
    optuna().create_study(storage=store.storage, study_name=store.name)
    return store


@pytest.mark.slow
def test_every_folder_has_a_database_of_its_own(tmp_path):
    for name in NAMES:
        made(tmp_path / name).close()
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == {
        f"{name}/study.db" for name in NAMES
    }
    for name in NAMES:
        store = Store(file_url(tmp_path / name / "study.db"), name)
        assert store.names() == [name]
        store.close()


@pytest.mark.parametrize("study", ["a/b", "..", "../x", ".", "", "/tmp/x", "a/", "./a"])
def test_a_study_stays_in_its_folder(study, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["compare", "digits", f"--study={study}"], ["worker", f"{study}"]):
        with pytest.raises(SystemExit) as exit_:
            app([*command, "--out", str(tmp_path / "runs")])
        assert exit_.value.code == 1
        words = f"Stopped: study must be the name of one folder, got {study!r}"
        assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_a_renamed_folder_is_the_study_that_it_was(tmp_path):
    made(tmp_path / "digits").close()
    (tmp_path / "digits").rename(tmp_path / "old")
    for given in ("old", str(tmp_path / "old")):
        folder, store = Location(out=tmp_path).open(given)
        assert (store.name, store.names(), folder) == ("digits", ["digits"], tmp_path / "old")
        store.close()


def test_of_several_studies_in_a_file_one_has_the_folders_name(tmp_path):
    store = made(tmp_path / "b")
    optuna().create_study(storage=store.storage, study_name="a")
    store.close()
    assert stored_in(tmp_path / "b").name == "b"
    (tmp_path / "b").rename(tmp_path / "c")
    with pytest.raises(ValueError, match=r"no study 'c' in .*; known: a, b"):
        stored_in(tmp_path / "c").plan()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true"]
)
def test_a_database_in_memory_is_refused(url):
    with pytest.raises(ValueError, match="is in memory: workers can share only a file or a"):
        Store(url, "s")


HERE = "127.0.0.1:9/x"
WITH_PASSWORDS = {  # url: how it is shown
    f"postgresql://me:hunter@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:hunter kept@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:hunter%40kept@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:hunter/kept@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:hunter:kept@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:hunter#kept@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:hunter?kept@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:hunter%kept@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://me:{{hunter}}@{HERE}": f"postgresql://me:***@{HERE}",
    f"postgresql://:hunter@{HERE}": f"postgresql://:***@{HERE}",
    f"postgresql://us%2Fer:hunter@{HERE}": f"postgresql://us%2Fer:***@{HERE}",
    f"postgresql://me:hunter@kept@{HERE}": "postgresql://***",
    f"postgresql://me:hunter@kept/safe@{HERE}": "postgresql://***",
    f"postgresql://me:hunter@kept?safe=1@{HERE}": "postgresql://***",
    f"postgresql://us/er:hunter@{HERE}": "postgresql://***",
    f"postgresql://us@er:hunter@{HERE}": "postgresql://***",
    "postgresql://me:hunter@127.0.0.1:kept/x": "postgresql://***",
    f"postgresql://{HERE}?user=me&password=hunter": f"postgresql://{HERE}?user=me",
    f"postgresql://{HERE}?password=safe&password=hunter": f"postgresql://{HERE}",
    f"postgresql://{HERE}?sslpassword=hunter": f"postgresql://{HERE}",
    f"postgresql://{HERE}?PassWord=hunter": f"postgresql://{HERE}",
    f"postgresql://{HERE}?user=me@there&password=hunter": "postgresql://***",
    f"postgresql://{HERE}&password=hunter": "postgresql://***",
    "postgresql://a?password=hunter@kept/x": "postgresql://***",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3DX;PWD%3Dhunter": "mssql+pyodbc://",
    "host=127.0.0.1 port=9 password=hunter": "***",
    "password=hunter host=a://b": "***",
}  # fmt: skip


@pytest.mark.parametrize(("url", "shown"), WITH_PASSWORDS.items())
def test_a_password_is_shown_nowhere(url, shown):
    assert without_password(url).removesuffix("/") == shown
    with pytest.raises(ValueError, match="--storage") as error:
        Store(url, "s", wait_s=0.0)
    for text in (
        str(error.value),
        command_without_passwords(["tangential", "worker", "--storage", url]),
        command_without_passwords(["tangential", "worker", f"--storage={url}"]),
    ):
        assert not re.search("hunter|kept|safe", text)
        assert shown in text or "://" not in shown


def test_a_command_keeps_everything_else():
    given = ["tangential", "compare", "digits", "--out", "a b", "--set", "x=1", "--storage"]
    assert command_without_passwords([*given, "x=y"]).endswith(" --storage '***'")
    assert (
        command_without_passwords(given)
        == "tangential compare digits --out 'a b' --set x=1 --storage"
    )


def test_messages_of_drivers_show_no_password(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "fromoutside")
    said = Exception("invalid: hunter, inquery, fromoutside\nsecond line")
    url = "postgresql://me:hunter@db/x?sslpassword=inquery"
    assert database.first_line(said, url) == "invalid: ***, ***, ***"


class TestWaiting:
    """Only a server that is starting is waited for, no other error of connecting."""

    def calls(self, monkeypatch, error, wait_s, last=None):
        monkeypatch.setattr(database, "PAUSE_S", 0.0)
        calls = []

        def make():
            calls.append(None)
            if last is None or len(calls) < last:
                raise error
            return "made"

        try:
            return database._retried(make, wait_s), len(calls)
        except type(error):
            return "raised", len(calls)

    @pytest.mark.parametrize(
        "said", ["port 9 failed: Connection refused", "FATAL: the database system is starting up"]
    )
    def test_a_server_that_is_starting_is_waited_for(self, said, monkeypatch):
        error = OperationalError(None, None, Exception(said))
        assert self.calls(monkeypatch, error, 60.0, last=40) == ("made", 40)
        assert self.calls(monkeypatch, error, 0.0) == ("raised", 1)

    @pytest.mark.parametrize(
        "said", ["failed to resolve host 'nowhere'", "password authentication failed"]
    )
    def test_a_wrong_host_or_password_fails_at_once(self, said, monkeypatch):
        error = OperationalError(None, None, Exception(said))
        assert self.calls(monkeypatch, error, 60.0) == ("raised", 1)

    def test_a_table_that_another_process_creates_is_tried_again(self, monkeypatch):
        error = ProgrammingError("CREATE TABLE", None, Exception("already exists"))
        assert self.calls(monkeypatch, error, 0.0, last=3) == ("made", 3)
        assert self.calls(monkeypatch, error, 60.0) == ("raised", database.TRIES)


@pytest.mark.parametrize("command", ["report", "worker", "watch"])
def test_a_command_that_reads_creates_nothing(command, capsys, tmp_path):
    with pytest.raises(SystemExit):
        app([command, "x", "--storage", f"sqlite:///{tmp_path}/new/typo.db"])
    assert f"Stopped: no such database: {tmp_path}/new/typo.db. " in capsys.readouterr().err
    (tmp_path / "empty.db").touch()
    with pytest.raises(SystemExit):
        app([command, "x", "--storage", f"sqlite:///{tmp_path}/empty.db"])
    assert f"Stopped: no study in {tmp_path}/empty.db" in capsys.readouterr().err
    assert [(p.name, p.stat().st_size) for p in tmp_path.iterdir()] == [("empty.db", 0)]


@pytest.mark.parametrize("table", ["moz(a)", "studies(a)"])
@pytest.mark.parametrize("create", [False, True])
def test_another_programs_file_is_left_as_it_is(create, table, tmp_path):
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"belongs to another program .*: choose another file"):
        Store(file_url(path), "s", create=create)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_an_empty_file_or_incomplete_tables_are_used(tmp_path):
    (tmp_path / "empty.db").touch()
    with sqlite3.connect(tmp_path / "half.db") as connection:
        connection.execute("CREATE TABLE studies(study_id, study_name)")
    connection.close()
    Store(file_url(tmp_path / "empty.db"), "s").close()
    Store(file_url(tmp_path / "half.db"), "s").close()
    Store(file_url(tmp_path / "half.db"), "s", create=False).close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgres://me@db/x", "write postgresql:// instead of postgres://"),
        ("mysql://me@db/x", "a driver that is not installed: run pip install mysqlclient"),
    ],
)
def test_a_url_without_a_driver_says_what_to_do(url, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    with pytest.raises(ValueError, match=words):
        Store(url, "s", wait_s=0.0)
