"""The laboratory's commands: fair by construction, nothing lost, errors that help."""

import csv
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tangential_lab import experiments as tasks
from tangential_lab.__main__ import main
from tangential_lab.cli.study.compare import default_name
from tangential_lab.studies import (
    Plan,
    PlannedOptimizer,
    Store,
    entry_for,
    planned_optimizer,
    quasi_random_points,
)
from tangential_lab.training import (
    DEFAULT_OPTIMIZERS,
    OPTIMIZERS,
    Metric,
    Spec,
    space_around,
    user_optimizer,
)

SMALL = ["compare", "digits", "--optimizers", "sgd", "sgdp", "--trials", "2", "--seeds", "2"]


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tangential_lab", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "120", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        **options,
    )


def output_of(*arguments, **options):
    process = command(*arguments, **options)
    text, _ = process.communicate(timeout=280)
    return process.returncode, text


linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")


def workers_of(process):
    """Ids of the processes that a study trains in."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


SPACES = {"sgd": space_around({"lr": 0.1}), "adam": space_around({"lr": 1e-3})}


def plan_of(**changes):
    optimizers = {
        name: PlannedOptimizer("", r.about, r.baseline, r.colour, SPACES[r.family], {"lr": 0.1})
        for name, r in OPTIMIZERS.items()
    }
    usual = Plan(
        *("digits", {}, "a", ["d", "0"], Metric("accuracy", "%", 0.1), optimizers, 8, 3, True),
        *(1.0, 64, [], {}),
    )
    return usual._replace(**changes)


class TestPlan:
    def records(self, plan):
        """Tuning made up: the third point is best for all, for sgdp the fifth."""
        records = {}
        for i, spec in enumerate(plan.tuning_trials()):
            best = 4 if spec.optimizer == "sgdp" else 2
            score = 0.99 if i // len(OPTIMIZERS) == best else 0.5
            records[spec] = {"score": score, "loss": 1 - score, "diverged": False}
        return records

    def test_every_entry_of_a_family_tunes_over_the_same_points(self):
        plan = plan_of()
        tried = {
            name: [s.point for s in plan.tuning_trials() if s.optimizer == name]
            for name in OPTIMIZERS
        }
        for name, optimizer in OPTIMIZERS.items():
            assert tried[name] == tried[optimizer.family]
            assert len(set(tried[name])) == 8
        shares = [
            [math.log(dict(p)["lr"] / low) / math.log(high / low) for p in tried[family]]
            for family, (low, high) in ((f, s["lr"]) for f, s in SPACES.items())
        ]
        assert shares[0] == pytest.approx(shares[1], abs=1e-3)

    def test_optimizers_are_searched_around_the_published_lr_of_their_family(self):
        task = tasks.make("digits", None, {})
        for name in ("sgdp", "adamp"):
            found = planned_optimizer(task, OPTIMIZERS[name], "")
            low, high = found.space["lr"]
            assert math.sqrt(low * high) == pytest.approx(found.published["lr"])
            assert high / low == pytest.approx(100)

    def test_report_is_paired_and_its_seeds_are_new(self):
        plan = plan_of()
        records = self.records(plan)
        reported = plan.test_trials(records)
        assert (
            plan.size == len(plan.tuning_trials()) + len(reported) == len(OPTIMIZERS) * (8 + 2 * 3)
        )
        for name, optimizer in OPTIMIZERS.items():
            mine = [s for s in reported if s.optimizer == name and s.phase == "test"]
            assert [s.seed for s in mine] == [1000, 1001, 1002]
            assert {s.values["lr"] for s in mine} == {
                quasi_random_points(SPACES[optimizer.family], 8)[4 if name == "sgdp" else 2]["lr"]
            }
        assert not {s.seed for s in reported} & {s.seed for s in plan.tuning_trials()}

    def test_undecayed_runs_are_at_the_baselines_lr(self):
        plan = plan_of()
        reported = plan.test_trials(self.records(plan))
        lr = {family: quasi_random_points(space, 8)[2]["lr"] for family, space in SPACES.items()}
        for spec in reported:
            if spec.phase == "undecayed":
                assert spec.values["weight_decay"] == 0
                assert spec.values["lr"] == lr[OPTIMIZERS[spec.optimizer].family]

    def test_without_tuning_optimizers_run_at_the_published_settings(self):
        plan = plan_of(trials=0, seeds=1, undecayed=False)
        assert [s.point for s in plan.next_trials({})] == [(("lr", 0.1),)] * len(OPTIMIZERS)

    def test_diverged_trials_rank_last_and_lower_may_be_better(self):
        good, bad = ({"score": s, "loss": s, "diverged": False} for s in (0.9, 0.1))
        lost = {"score": 1.0, "loss": 0.0, "diverged": True}
        rank = plan_of().rank
        assert rank(good) > rank(bad) > rank(lost)
        rank = plan_of(metric=Metric("perplexity", "", 100.0, higher_is_better=False)).rank
        assert rank(bad) > rank(good) > rank(lost)

    def test_points_are_a_log_uniform_prefix(self):
        space = {"lr": (1e-3, 1.0), "weight_decay": (1e-5, 1e-1)}
        assert quasi_random_points(space, 16)[:5] == quasi_random_points(space, 5)
        for name, (low, high) in space.items():
            values = sorted(point[name] for point in quasi_random_points(space, 16))
            shares = [math.log(v / low) / math.log(high / low) for v in values]
            assert all(i / 16 <= share <= (i + 1) / 16 for i, share in enumerate(shares))

    def test_whatever_decides_a_trial_is_in_its_key(self):
        plan = plan_of()
        spec = plan.tuning_trials()[0]
        changes = {
            "task": "t", "options": {"a": 1}, "data": ["d", "1"], "epochs": 2.0,
            "settings": {"precision": "bf16"},
        }  # fmt: skip
        keys = {plan.key(spec), plan.key(spec._replace(seed=7)), plan.key(plan.tuning_trials()[1])}
        keys |= {plan._replace(**{name: value}).key(spec) for name, value in changes.items()}
        assert len(keys) == 3 + len(changes)
        assert plan._replace(trials=99, seeds=9, about="other").key(spec) == plan.key(spec)


class TestTasks:
    @pytest.mark.parametrize("name", tasks.NAMES)
    def test_says_what_it_is_and_what_can_be_chosen(self, name):
        assert len(tasks.about(name)) > 20
        assert str(tasks.options(name)["preset"]).startswith("preset=mini")
        assert default_name(name, {}) == name

    def test_unknown_options_are_refused(self):
        with pytest.raises(ValueError, match=r"unknown digits option 'preste'\. Did you mean 'pre"):
            tasks.parse_options("digits", ["preste=mini"])
        with pytest.raises(ValueError, match="preset must be mini, got 'maxi'"):
            tasks.parse_options("digits", ["preset=maxi"])


OWN = """
import torch

def heavy(params, lr, momentum):
    return torch.optim.SGD(params, lr=lr, momentum=momentum)

heavy.space = {"lr": (1e-3, 1e-1), "momentum": (0.5, 0.99)}
heavy.family = "sgd"

def wrong(params, lr, weight_decay):
    raise ValueError("no such optimizer here")

def odd(params): ...
odd.space = {"lr": (1.0, 0.1)}
"""


class TestOwnOptimizers:
    def test_a_file_and_a_module(self, tmp_path):
        (tmp_path / "mine.py").write_text(OWN)
        optimizer = user_optimizer(0, "heavy", f"{tmp_path}/mine.py:heavy")
        assert (optimizer.baseline, optimizer.family) == ("sgd", "sgd")
        assert optimizer.space["momentum"] == (0.5, 0.99)
        assert user_optimizer(1, "nadam", "torch.optim:NAdam").space is None

    def test_is_another_one_when_its_file_changes(self, tmp_path):
        code = "from torch.optim import SGD\nclass Own(SGD):\n    pass\n"
        (tmp_path / "mine.py").write_text(code)
        before = user_optimizer(0, "own", f"{tmp_path}/mine.py:Own").about
        assert user_optimizer(0, "own", f"{tmp_path}/mine.py:Own").about == before
        (tmp_path / "mine.py").write_text(code + "    extra = 1\n")
        assert user_optimizer(0, "own", f"{tmp_path}/mine.py:Own").about != before

    def test_of_a_module_is_another_one_when_where_it_is_made_changes(self, tmp_path, monkeypatch):
        (tmp_path / "made_here.py").write_text("from torch.optim import SGD\nclass Own(SGD): ...\n")
        (tmp_path / "named_here.py").write_text("from made_here import Own\n")
        monkeypatch.syspath_prepend(tmp_path)
        before = user_optimizer(0, "own", "named_here:Own").about
        (tmp_path / "made_here.py").write_text("from torch.optim import SGD\nclass Own(SGD): 1\n")
        assert user_optimizer(0, "own", "named_here:Own").about != before

    def test_a_study_does_not_go_on_with_one_that_has_changed(self, tmp_path):
        (tmp_path / "mine.py").write_text(OWN)
        source = f"{tmp_path}/mine.py:heavy"
        mine = user_optimizer(0, "heavy", source)
        known = PlannedOptimizer(source, mine.about, "sgd", "#fff", mine.space, {"lr": 0.1})
        plan, spec = plan_of(optimizers={"heavy": known}), Spec("heavy", "tune", 0, (("lr", 0.1),))
        assert entry_for(plan, spec).about == mine.about
        (tmp_path / "mine.py").write_text(OWN + "\n# better\n")
        with pytest.raises(
            ValueError, match=r"optimizer 'heavy' was .*mine.py:heavy \(.*start the study"
        ):
            entry_for(plan, spec)

    def test_without_anything_to_tune_has_one_tuning_trial(self, tmp_path):
        bare = PlannedOptimizer("x", "x", None, "#fff", {}, {})
        plan = plan_of(optimizers={"bare": bare}, undecayed=False)
        assert len(plan.tuning_trials()) == 1
        records = {
            spec: {"score": 1.0, "loss": 0.0, "diverged": False} for spec in plan.tuning_trials()
        }
        assert len(records) + len(plan.next_trials(records)) == plan.size == 1 + 3

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("torch.optim:Adamm", "module 'torch.optim' has no attribute 'Adamm'"),
            ("nowhere:x", "No module named 'nowhere'"),
            ("nothing", "expected module:factory or FILE.py:FACTORY"),
            ("missing.py:x", "there is no file 'missing.py'"),
        ],
    )
    def test_what_is_not_to_be_had(self, source, words):
        with pytest.raises(ValueError, match=r".") as error:
            user_optimizer(0, "mine", source)
        assert words in str(error.value)

    def test_a_space_that_is_none(self, tmp_path):
        (tmp_path / "mine.py").write_text(OWN)
        with pytest.raises(
            ValueError, match=r"odd.space\['lr'\] must be two finite .*, got \(1.0, 0.1\)"
        ):
            user_optimizer(0, "odd", f"{tmp_path}/mine.py:odd")

    def test_compared_from_the_command_line(self, tmp_path):
        (tmp_path / "mine.py").write_text(OWN)
        usual = [
            "compare",
            "digits",
            "--optimizers",
            "sgd",
            "--trials",
            1,
            "--seeds",
            1,
            "--epochs",
            1,
        ]
        usual += ["--workers", 1]
        code, text = output_of(*usual, "--optimizer", "heavy=mine.py:heavy", cwd=tmp_path)
        assert code == 0, text
        assert "heavy" in text
        with (tmp_path / "runs/digits/trials.csv").open() as file:
            trials = list(csv.DictReader(file))
        assert {t["optimizer"] for t in trials} == {"sgd", "heavy"}
        code, text = output_of(*usual, "--optimizer", "wrong=mine.py:wrong", cwd=tmp_path)
        assert code == 1
        assert re.search(
            r"Stopped: optimizer 'wrong' fails with a list of groups .*, lr=0.01, weight_decay=0.01"
            r": ValueError: no such optimizer here \(.*mine.py:11\)\. Correct it, or leave this",
            text,
        )
        assert "Traceback" not in text


class TestCommand:
    def test_runs_reports_and_does_nothing_twice(self, tmp_path):
        code, text = output_of(*SMALL, "--epochs", 1, "--undecayed", "--out", tmp_path)
        assert code == 0, text
        assert "[ 12/12]" in text
        assert "SGDP" in text
        folder = tmp_path / "digits"
        with (folder / "trials.csv").open() as file:
            trials = list(csv.DictReader(file))
        assert len(trials) == 12
        assert {trial["phase"] for trial in trials} == {"tune", "test", "undecayed"}
        assert not (folder / "checkpoints").exists()
        code, again = output_of(*SMALL, "--epochs", 1, "--undecayed", "--out", tmp_path)
        assert code == 0
        assert "12 of 12 trials were there" in again
        assert "[ 12/12]" not in again
        end = "Each at its best point"
        assert text[text.index(end) :] == again[again.index(end) :]
        code, judged = output_of("report", "digits", "--out", tmp_path)
        assert code == 0
        assert text[text.index(end) :] == judged[judged.index(end) :]
        code, judged = output_of("report", folder, folder, "--out", tmp_path)
        assert code == 0, judged
        assert (tmp_path / "report.html").exists()

    def test_ctrl_c_stops_cleanly_and_a_worker_goes_on(self, tmp_path):
        arguments = (*SMALL, "--epochs", 30, "--out", tmp_path)
        process = command(*arguments)
        assert process.stdout.readline().startswith("[  1/8]")
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=100)
        assert process.returncode == 130, text
        assert "Stopping: the trials under way are being saved" in text
        assert "Stopped. Finished trials are kept: run the same command again" in text
        assert "Traceback" not in text
        assert list((tmp_path / "digits/checkpoints").glob("*/*.checkpoint"))
        store = Store(f"sqlite:///{tmp_path}/digits/study.db", "digits")
        plan = store.plan()
        kept = store.records(plan)
        assert 1 <= len(kept) < 8
        code, text = output_of("worker", "digits", "--out", tmp_path)
        assert code == 0, text
        records = store.records(plan)
        assert len(records) == 8
        assert all(records[spec] == record for spec, record in kept.items())
        store.close()

    @linux
    def test_ctrl_c_twice_ends_at_once_and_loses_nothing(self, tmp_path):
        arguments = (*SMALL, "--epochs", 12, "--out", tmp_path)
        process = command(*arguments)
        assert process.stdout.readline().startswith("[  1/8]")
        workers = workers_of(process)
        os.killpg(process.pid, signal.SIGINT)
        while "Stopping" not in (line := process.stdout.readline()):
            assert line
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=100)
        assert process.returncode == 130, text
        assert "Traceback" not in text
        deadline = time.monotonic() + 30
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(alive, workers))
        store = Store(f"sqlite:///{tmp_path}/digits/study.db", "digits")
        plan = store.plan()
        kept = store.records(plan)
        code, text = output_of(*arguments)
        assert code == 0, text
        records = store.records(plan)
        assert len(records) == 8
        assert all(records[spec] == record for spec, record in kept.items())
        store.close()

    @linux
    def test_a_killed_worker_is_replaced(self, tmp_path):
        process = command(*SMALL, "--epochs", 3, "--out", tmp_path)
        process.stdout.readline()
        os.kill(workers_of(process)[0], signal.SIGKILL)
        text, _ = process.communicate(timeout=200)
        assert process.returncode == 0, text
        assert re.search(
            r"A worker ended \(SIGKILL, (in \w+'s \w+ trial of seed \d+|between trials)\); another "
            "takes its trial",
            text,
        )
        assert "[  8/8]" in text

    @linux
    def test_a_killed_study_leaves_no_workers_and_goes_on(self, tmp_path):
        arguments = (*SMALL, "--epochs", 3, "--out", tmp_path)
        process = command(*arguments)
        process.stdout.readline()
        workers = workers_of(process)
        process.kill()
        process.communicate(timeout=60)
        deadline = time.monotonic() + 30
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(alive, workers))
        code, text = output_of(*arguments)
        assert code == 0, text
        assert "of 8 trials were there: going on" in text

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["compare", "digts"], "unknown task 'digts'. Did you mean 'digits'?"),
            (["compare", "digits", "--optimizers", "adampp"], "Did you mean 'adamp'?"),
            (["compare", "digits", "--trials", "-1"], "Must be >= 0"),
            (["compare", "digits", "--seeds", "0"], "Must be >= 1"),
            (["compare", "digits", "--trails", "3"], "Did you mean --trials?"),
            (["compair"], 'Did you mean "compare"?'),
        ],
    )
    def test_unknown_names_suggest_the_nearest(self, arguments, words, capsys):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        assert words in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["compare", "digits", "--preset", "paper"], "preset is 'paper', allowed are mini"),
            (
                ["compare", "digits", "--optimizer", "x"],
                "--optimizer must be name=module:factory, got 'x'",
            ),
            (["compare", "digits", "--optimizer", "sgd=a:b"], "'sgd' is the laboratory's own"),
            (["compare", "digits", "--storage", "x"], "--storage 'x' is not a valid URL"),
            (["worker", "nothing"], "there is no study 'nothing'"),
            (["report", "nothing"], "there is no study 'nothing'"),
            (["watch", "nothing"], "there is no study 'nothing'"),
        ],
    )
    def test_what_cannot_be_is_said_in_a_line(
        self, arguments, words, capsys, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 1
        assert words in capsys.readouterr().err
        assert not list(tmp_path.rglob("*.html"))

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        code, text = output_of(*SMALL, "--out", tmp_path / "file")
        assert code == 1
        assert "Traceback" not in text
        assert "Not a directory" in text

    def test_list_and_help_name_everything(self, capsys):
        for arguments, words in [
            (["list"], [*tasks.NAMES, *OPTIMIZERS]),
            (["--help"], ["compare", "worker", "report", "watch", "list"]),
            (["compare", "--help"], ["--optimizers", "--trials", "--seeds", "--storage", "--data"]),
        ]:
            with pytest.raises(SystemExit) as exit_:
                main(arguments)
            assert not exit_.value.code
            text = capsys.readouterr().out
            assert all(word in text for word in words)
        assert set(DEFAULT_OPTIMIZERS) <= set(OPTIMIZERS)
