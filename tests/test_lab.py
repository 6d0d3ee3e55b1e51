"""The laboratory: fair by construction, nothing lost, and a page that stands alone."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tangential.lab import statistics, study
from tangential.lab.cli import app
from tangential.lab.report import report, write
from tangential.lab.rivals import RIVALS, SPACE
from tangential.lab.study import Plan, Store, points
from tangential.lab.task import Spec, train
from tangential.lab.tasks import TASKS

SPEC = Spec("digits", "adamp", "tune", 0, 0.01, 1e-4, 1)
SMALL = ["compare", "digits", "--rivals", "sgd", "sgdp", "--trials", "2", "--seeds", "2"]


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tangential", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "120", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        **options,
    )


def output_of(*arguments):
    process = command(*arguments)
    text, _ = process.communicate(timeout=200)
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


def made(spec, score=0.9, diverged=False, **values):
    """A record as training would leave it."""
    curves = {name: [0.0, 1.0] for name in ("step", "loss", "lr", "score", "norm")}
    return {
        **spec._asdict(),
        "score": score,
        "loss": 1 - score,
        "diverged": diverged,
        "norm": 2.0,
        "effective_step": 0.1,
        "step_s": 0.002,
        "optimizer_s": 0.001,
        "curves": curves | {"effective_step": [0.1, 0.1]},
        "provenance": {"versions": {"torch": "2"}, "machine": "m", "command": "c", "time": "t"},
        **values,
    }


class TestPlan:
    plan = Plan("digits", tuple(RIVALS), trials=8, seeds=3, epochs=1)

    def records(self):
        """Tuning made up: the third point is best for all, for sgdp the fifth."""
        best = {rival: points(8)[4 if rival == "sgdp" else 2] for rival in RIVALS}
        return {
            spec: made(spec, score=0.99 if spec[4:6] == best[spec.rival] else 0.5)
            for spec in self.plan.tuning()
        }

    def test_every_rival_tunes_over_the_same_points(self):
        tried = {rival: [s[3:] for s in self.plan.tuning() if s.rival == rival] for rival in RIVALS}
        assert all(specs == tried["sgd"] for specs in tried.values())
        assert len(set(tried["sgd"])) == 8

    def test_report_is_paired_and_its_seeds_are_new(self):
        reported = self.plan.report(self.records())
        assert self.plan.size == len(self.plan.tuning()) + len(reported) == 4 * 8 + 4 * 3 * 2
        for rival in RIVALS:
            mine = [s for s in reported if s.rival == rival and s.phase == "report"]
            assert [s.seed for s in mine] == [1000, 1001, 1002]
            assert {s[4:6] for s in mine} == {points(8)[4 if rival == "sgdp" else 2]}
        assert not {s.seed for s in reported} & {s.seed for s in self.plan.tuning()}

    def test_mechanism_differs_by_nothing_but_the_update(self):
        bare = [s for s in self.plan.report(self.records()) if s.phase == "mechanism"]
        assert {s.weight_decay for s in bare} == {0.0}
        by_rival = {rival: [s[3:] for s in bare if s.rival == rival] for rival in RIVALS}
        assert by_rival["sgdp"] == by_rival["sgd"]
        assert by_rival["adamp"] == by_rival["adamw"]

    def test_best_prefers_score_then_loss_and_never_a_diverged_trial(self):
        a, b, c = [s for s in self.plan.tuning() if s.rival == "sgd"][:3]
        records = {s: made(s, 0.1) for s in self.plan.tuning()}
        records |= {a: made(a, 0.9, loss=0.4), b: made(b, 0.9, loss=0.3)}
        records[c] = made(c, 0.95, diverged=True)
        assert self.plan.best("sgd", records) == b

    def test_points_are_a_log_uniform_prefix(self):
        assert points(16)[:5] == points(5)
        for axis, (low, high) in enumerate(SPACE.values()):
            values = sorted(point[axis] for point in points(16))
            shares = [math.log(v / low) / math.log(high / low) for v in values]
            assert all(i / 16 <= share <= (i + 1) / 16 for i, share in enumerate(shares))


class TestStatistics:
    def test_interval_of_known_answer(self):
        # t(.975, 4) = 2.7764, deviation of 1..5 = 1.5811, / sqrt(5) -> half 1.9633
        found = statistics.interval([1, 2, 3, 4, 5])
        assert found == pytest.approx((3, 3 - 1.96324, 3 + 1.96324), abs=1e-5)
        assert found.half == pytest.approx(1.96324, abs=1e-5)

    def test_pairing_removes_what_seeds_share(self):
        difference = statistics.paired([10.1, 20.1, 30.1], [10.0, 20.0, 30.0])
        assert difference.mean == pytest.approx(0.1)
        assert difference.half < 1e-12

    @pytest.mark.parametrize(
        ("low", "high", "words"),
        [
            (-0.01, 0.02, "no difference seen between adamp and adamw"),
            (0.0, 0.02, "no difference seen"),
            (0.01, 0.02, "adamp is ahead of adamw"),
            (-0.02, -0.01, "adamp is behind adamw"),
            (-math.inf, math.inf, "no difference seen"),
            (math.nan, math.nan, "no difference seen"),
        ],
    )
    def test_sentences_claim_no_more_than_the_interval(self, low, high, words):
        difference = statistics.Interval((low + high) / 2, low, high)
        assert words in statistics.finding("adamp", "adamw", "accuracy", difference)


class TestTrial:
    def test_is_deterministic_and_reports_what_it_did(self):
        task = TASKS["digits"]()
        first, second = (train(task, SPEC) for _ in range(2))
        timed = {"step_s", "optimizer_s"}
        assert {k: v for k, v in first.items() if k not in timed} == {
            k: v for k, v in second.items() if k not in timed
        }
        assert first["curves"]["step"] == [0, 10, 15]
        assert 0.2 < first["score"] < 1
        assert first["curves"]["loss"][-1] < first["curves"]["loss"][0]

    def test_norm_and_effective_step_are_the_models(self, monkeypatch):
        """Recomputed outside, from the weights around every step."""
        task = TASKS["digits"]()
        models, seen = [], []
        build = task.model

        def model():
            models.append(build())
            return models[-1]

        def spy(params, lr, decay):
            optimizer = RIVALS["sgdp"].build(params, lr, decay)
            kernels = [p for p in models[-1].parameters() if p.dim() == 4]
            optimizer.register_step_pre_hook(
                lambda *_: seen.append([w.detach().clone() for w in kernels])
            )
            optimizer.register_step_post_hook(
                lambda *_: seen.append([w.detach().clone() for w in kernels])
            )
            return optimizer

        monkeypatch.setitem(RIVALS, "spy", RIVALS["sgdp"]._replace(build=spy))
        record = train(task._replace(model=model), SPEC._replace(rival="spy", lr=0.5))
        for i, step in enumerate(record["curves"]["step"]):
            before, after = seen[2 * step], seen[2 * step + 1]
            norm = sum(w.norm().item() for w in after) / 3
            turn = sum(
                (b / b.norm() - a / a.norm()).norm().item()
                for a, b in zip(before, after, strict=True)
            )
            assert record["curves"]["norm"][i] == pytest.approx(norm, rel=1e-5)
            assert record["curves"]["effective_step"][i] == pytest.approx(turn / 3, rel=1e-3)

    def test_divergence_is_recorded(self):
        record = train(TASKS["digits"](), SPEC._replace(rival="sgd", lr=1e12))
        assert record["diverged"] is True

    def test_splits_do_not_overlap(self):
        splits = TASKS["digits"]().splits()
        assert [len(x) for x, _ in splits.values()] == [1077, 360, 360]
        together = torch.cat([x for x, _ in splits.values()]).flatten(1)
        assert len(together.unique(dim=0)) == 1797

    def test_invariant_weights_are_invariant(self):
        task = TASKS["digits"]()
        torch.manual_seed(0)
        model = task.model()
        inputs = torch.randn(8, 1, 8, 8)
        expected = model(inputs)
        for weight in task.invariant(model):
            weight.data.mul_(3.0)
        torch.testing.assert_close(model(inputs), expected, rtol=1e-3, atol=1e-3)


class TestStore:
    def test_keeps_records_whole(self, tmp_path):
        store = Store(tmp_path)
        assert store.load(SPEC) is None
        saved = store.save(SPEC, {"score": 0.5, "loss": math.nan})
        assert store.load(SPEC)["score"] == saved["score"] == 0.5
        assert saved["provenance"]["versions"]["torch"] == version("torch")
        assert [p.suffix for p in store.folder.iterdir()] == [".json"]

    def test_every_spec_and_version_has_its_own_file(self, tmp_path):
        store = Store(tmp_path)
        others = [SPEC._replace(**{name: 7}) for name in Spec._fields if name not in ("rival",)]
        paths = {store.path(spec) for spec in [SPEC, *others]}
        for changed in ("torch", "source"):
            other = Store(tmp_path)
            other.versions = other.versions | {changed: "0"}
            paths.add(other.path(SPEC))
        assert len(paths) == len(others) + 3

    def test_unreadable_record_counts_as_missing(self, tmp_path):
        store = Store(tmp_path)
        store.save(SPEC, {"score": 0.5})
        store.path(SPEC).write_text('{"score": 0.')
        with pytest.warns(UserWarning, match="runs again"):
            assert store.load(SPEC) is None

    def test_full_disk_leaves_the_old_file_and_no_scraps(self, tmp_path, monkeypatch):
        store = Store(tmp_path)
        store.save(SPEC, {"score": 0.5})

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(study.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.save(SPEC, {"score": 0.9})
        assert store.load(SPEC)["score"] == 0.5
        assert len(list(store.folder.iterdir())) == 1


def test_page_stands_alone_and_escapes_names(tmp_path):
    plan = Plan("digits", ("sgd", "sgdp"), trials=1, seeds=2, epochs=1)
    records = {spec: made(spec) for spec in plan.tuning()}
    records |= {spec: made(spec) for spec in plan.report(records)}
    evil = "<script>alert(1)</script>"
    for record in records.values():
        record["provenance"] = record["provenance"] | {"command": evil, "machine": evil}
    task = TASKS["digits"]()._replace(name=evil, about=evil, metric=evil)
    page = write(task, report(task, plan, records), tmp_path)[0].read_text()
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    head, body = page.split("<body>")
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", head[:3000] + body)
    assert len(page) < 6e6
    figures = re.findall(r'<script type="application/json">(.*?)</script>', body, re.DOTALL)
    assert len(figures) == 6
    for figure in map(json.loads, figures):
        named = [t["name"] for t in figure["data"] if t.get("name")]
        assert named == ["sgd", "sgdp"]


class TestCommand:
    def test_runs_reports_and_does_nothing_twice(self, tmp_path):
        code, text = output_of(*SMALL, "--epochs", 1, "--out", tmp_path)
        assert code == 0, text
        assert "[ 12/12]" in text
        assert "accuracy, tuned:" in text
        assert "without decay" in text
        folder = tmp_path / "digits"
        with (folder / "runs.csv").open() as file:
            runs = list(csv.DictReader(file))
        assert len(runs) == 12
        assert {run["phase"] for run in runs} == {"tune", "report", "mechanism"}
        with (folder / "curves.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 12 * 3
        before = {p: p.stat().st_mtime_ns for p in (folder / "trials").iterdir()}
        code, again = output_of(*SMALL, "--epochs", 1, "--out", tmp_path)
        assert code == 0
        assert "12/12" not in again
        assert text[text.index("Tuned") :] == again[again.index("Tuned") :]
        assert before == {p: p.stat().st_mtime_ns for p in (folder / "trials").iterdir()}

    def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(self, tmp_path):
        arguments = (*SMALL, "--epochs", 3, "--out", tmp_path)
        process = command(*arguments)
        assert process.stdout.readline().startswith("[  1/12]")
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=100)
        assert process.returncode == 130, text
        assert "Stopping: the trials under way are ending" in text
        assert "Stopped.\nFinished trials are kept: the same command goes on" in text
        assert "Traceback" not in text
        trials = tmp_path / "digits" / "trials"
        kept = {p.name: p.read_text() for p in trials.iterdir()}
        assert 1 <= len(kept) < 12
        assert all(name.endswith(".json") for name in kept)
        code, text = output_of(*arguments)
        assert code == 0, text
        assert f"{len(kept)} of 12 trials were there: going on" in text
        assert {name: (trials / name).read_text() for name in kept} == kept
        assert len(list(trials.iterdir())) == 12

    @linux
    def test_killed_worker_is_said_and_the_same_command_goes_on(self, tmp_path):
        arguments = (*SMALL, "--epochs", 3, "--out", tmp_path)
        process = command(*arguments)
        process.stdout.readline()
        os.kill(workers_of(process)[0], signal.SIGKILL)
        text, _ = process.communicate(timeout=100)
        assert process.returncode == 1, text
        assert "Traceback" not in text
        assert "the same command goes on" in text
        code, text = output_of(*arguments)
        assert code == 0, text

    @linux
    def test_killed_study_leaves_no_workers_behind(self, tmp_path):
        process = command(*SMALL, "--epochs", 50, "--out", tmp_path)
        while not (workers := workers_of(process)):
            time.sleep(0.1)
        time.sleep(5)  # until they have begun
        process.kill()
        process.communicate(timeout=60)
        deadline = time.monotonic() + 30
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(alive, workers))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["compare", "digts"], "unknown task 'digts'. Did you mean 'digits'?"),
            (["compare", "digits", "--rivals", "adampp"], "Did you mean 'adamp'?"),
            (["compare", "digits", "--trials", "0"], "Must be >= 1"),
            (["compare", "digits", "--seeds", "1"], "Must be >= 2"),
            (["compare", "digits", "--trails", "3"], "Did you mean --trials?"),
            (["compair"], 'Did you mean "compare"?'),
        ],
    )
    def test_unknown_names_suggest_the_nearest(self, arguments, words, capsys):
        with pytest.raises(SystemExit) as exit_:
            app(arguments)
        assert exit_.value.code == 2
        assert words in " ".join(capsys.readouterr().err.replace("\u2502", "").split())

    def test_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        code, text = output_of(*SMALL, "--out", tmp_path / "file")
        assert code == 1
        assert "Traceback" not in text
        assert "Not a directory" in text

    def test_list_and_help_name_everything(self, capsys):
        for arguments, words in [
            (["list"], [*TASKS, *RIVALS]),
            (["--help"], ["compare", "list"]),
            (["compare", "--help"], ["--rivals", "--trials", "--seeds", "--out"]),
        ]:
            with pytest.raises(SystemExit) as exit_:
                app(arguments)
            assert not exit_.value.code
            text = capsys.readouterr().out
            assert all(word in text for word in words)
