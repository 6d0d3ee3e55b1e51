"""A user's FILE.py: any valid one can be loaded, and of another one line says what is wrong."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from planned import plan_of

from tangential_lab import experiments as tasks
from tangential_lab.cli.study.options import parse_sources
from tangential_lab.studies import PlannedOptimizer, entry_for, study
from tangential_lab.studies.workers import preflight
from tangential_lab.training import describe_error, load_function, user_optimizer
from tangential_lab.training.task import Spec

DATACLASS = """
from __future__ import annotations
from dataclasses import dataclass, field
import torch

@dataclass
class Options:
    nesterov: bool = True
    more: list[int] = field(default_factory=list)

class Own(torch.optim.SGD): ...
"""


class TestLoading:
    def test_a_dataclass_with_postponed_annotations(self, tmp_path):
        (tmp_path / "mine.py").write_text(DATACLASS)
        assert load_function(tmp_path / "mine.py", "Options")().nesterov is True

    def test_neighbours_are_imported_either_way(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "path", [*sys.path])
        (tmp_path / "near_by.py").write_text("VALUE = 3\n")
        (tmp_path / "mine.py").write_text(
            "from .near_by import VALUE\nimport near_by\nfrom . import near_by as same\n"
            "def own(): return VALUE + near_by.VALUE + same.VALUE\n"
        )
        assert load_function(tmp_path / "mine.py", "own")() == 9

    def test_files_of_one_name_are_two_modules(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "torch.py").write_text(f"class Own:\n    name = {name!r}\n")
        first, second = (load_function(tmp_path / name / "torch.py", "Own") for name in ("a", "b"))
        assert (first.name, second.name) == ("a", "b")
        assert pickle.loads(pickle.dumps(first())).name == "a"
        assert sys.modules["torch"] is torch

    @pytest.mark.slow
    def test_its_classes_are_unpickled_in_another_process(self, tmp_path):
        folder = tmp_path / "with space.and dot"
        folder.mkdir()
        (folder / "mine.py").write_text(DATACLASS)
        packed = pickle.dumps(load_function(folder / "mine.py", "Options")(more=[1, 2]))
        code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).more)"
        done = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True)
        assert done.stdout == b"[1, 2]\n", done.stderr

    def test_a_file_that_changes_within_a_second_is_the_new_one(self, tmp_path):
        path = tmp_path / "mine.py"
        for value in (1, 2, 3):  # as long, as old
            path.write_text(f"def own(): return {value}\n")
            assert load_function(path, "own")() == value

    def test_a_change_of_a_neighbour_changes_the_fingerprint(self, tmp_path):
        (tmp_path / "package").mkdir()
        changing = [tmp_path / n for n in ("a.py", "b.py", "c.py", "package/d.py")]
        for path in [*changing, tmp_path / "other.py"]:
            path.write_text("")
        (tmp_path / "package/__init__.py").write_text("")
        (tmp_path / "b.py").write_text("import c, package.d\n")
        path = tmp_path / "mine.py"
        path.write_text("import math, mine\nfrom . import a\nfrom .b import *\ndef own(): ...\n")
        seen = {user_optimizer(0, "own", f"{path}:own").about for _ in range(2)}
        for changed in changing:
            changed.write_text(changed.read_text() + "# changed\n")
            seen.add(user_optimizer(0, "own", f"{path}:own").about)
        (tmp_path / "other.py").write_text("# changed\n")
        seen.add(user_optimizer(0, "own", f"{path}:own").about)
        assert len(seen) == 1 + len(changing)

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (b"x = 1\ndef own(:\n", r"SyntaxError: invalid syntax \(.*mine.py:2\)"),
            (b"x = 1\nraise KeyError('no')\n", r"KeyError: 'no' \(.*mine.py:2\)"),
            (
                b"import os\n\nimport nowhere\n",
                r"ModuleNotFoundError: .*where' \(.*mine.py:3",
            ),
            (b"def own(): ...\n\0", r"(SyntaxError|ValueError): source code .* null bytes$"),
            (b"\xff\xfe", r"SyntaxError: .*\(.*mine.py"),
            (b"import sys\nsys.exit(0)\n", r"SystemExit: 0 \(.*mine.py:2\)"),
            (b"from .nothing import x\n", r"ModuleNotFoundError: .*\(.*mine.py:1\)"),
            (b"1 / 0 if 1 else x\n", r"ZeroDivisionError: .*\(.*mine.py:1\)"),
        ],
    )
    def test_one_that_cannot_be_run(self, code, words, tmp_path):
        path = tmp_path / "mine.py"
        path.write_bytes(code)
        with pytest.raises(ValueError, match=rf"^.*mine.py cannot be run: {words}") as error:
            user_optimizer(0, "mine", f"{path}:own")
        assert "\n" not in str(error.value)

    def test_a_module_that_cannot_be_imported(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "leaves_early.py").write_text("import sys\nsys.exit(0)\n")
        (tmp_path / "has_number.py").write_text("own = 3\n")
        (tmp_path / "needs_more.py").write_text("\nimport nowhere\n")
        with pytest.raises(ValueError, match=r"\(ModuleNotFoundError: .* 'nowhere'\): expected"):
            user_optimizer(0, "mine", "nowhere:own")
        with pytest.raises(ValueError, match=r" 'nowhere' \(.*needs_more.py:2\)\): expected"):
            user_optimizer(0, "mine", "needs_more:own")
        with pytest.raises(ValueError, match=r"'leaves_early:own' \(SystemExit: 0 \(.*py:2\)\)"):
            user_optimizer(0, "mine", "leaves_early:own")
        with pytest.raises(ValueError, match="'has_number:own' must be a function, got 3"):
            user_optimizer(0, "mine", "has_number:own")

    def test_a_changed_file_is_not_run(self, tmp_path):
        path, ran = tmp_path / "mine.py", tmp_path / "ran"
        path.write_text("def own(params, lr, weight_decay): ...\n")
        source = f"{path}:own"
        known = PlannedOptimizer(
            source, user_optimizer(0, "own", source).about, "sgd", "#fff", {}, {}
        )
        plan = plan_of(optimizers={"own": known})
        path.write_text(f"open({str(ran)!r}, 'w')\ndef own(params, lr, weight_decay): ...\n")
        with pytest.raises(ValueError, match=r"optimizer 'own' was .* machine it is .*: start"):
            entry_for(plan, Spec("own", "tune", 0, ()))
        assert not ran.exists()


def test_a_long_message_keeps_its_ends():
    text = describe_error(ValueError("begin" + "x" * 3_000_000 + "end"))
    assert text.startswith("ValueError: beginxxx")
    assert text.endswith("xxxend")
    assert len(text) < 1200
    assert "(2,999,008 characters left out)" in text
    assert describe_error(ValueError("two\n  lines")) == "ValueError: two lines"


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError


def test_an_exception_that_cannot_be_printed_is_named():
    assert describe_error(UnprintableError()).startswith(
        "UnprintableError: <exception str() failed>"
    )


class TestSpaces:
    def optimizer(self, tmp_path, monkeypatch, **attributes):
        (tmp_path / "spaced.py").write_text("def own(params, lr): ...\n")
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("spaced", None)
        import spaced  # pyright: ignore[reportMissingImports]

        for name, value in attributes.items():
            setattr(spaced.own, name, value)
        return user_optimizer(0, "own", "spaced:own")

    @pytest.mark.parametrize(
        "bounds",
        [
            *((1e-1, 1e-3), (0, 1), (-1, 1), (1e-3, 1e-3), (1e-3, math.inf), (math.nan, 1)),
            *((1e-3, math.nan), (1,), (1, 2, 3), 5, None, "ab", ("1", "2"), (1, 10**400), ()),
            *((True, 2), ([1], [2]), (1, 2j)),
        ],
    )
    def test_bounds_are_two_finite_numbers(self, bounds, tmp_path, monkeypatch):
        with pytest.raises(
            ValueError, match=r"own.space\['lr'\] must be two finite numbers .* got"
        ):
            self.optimizer(tmp_path, monkeypatch, space={"lr": bounds})

    @pytest.mark.parametrize("space", [[1, 2], "lr", 3, {"lr"}, {1: (1, 2)}, dict])
    def test_a_space_is_a_dict_of_names(self, space, tmp_path, monkeypatch):
        with pytest.raises(ValueError, match=r"own.space must be a dict such as .*, got "):
            self.optimizer(tmp_path, monkeypatch, space=space)

    def test_bounds_become_python_floats(self, tmp_path, monkeypatch):
        space = {"lr": [np.float32(0.5), torch.tensor(2)], "a": (1, 3)}
        found = self.optimizer(tmp_path, monkeypatch, space=space).space
        assert found == {"lr": (0.5, 2.0), "a": (1.0, 3.0)}
        assert {type(x) for bounds in found.values() for x in bounds} == {float}
        assert self.optimizer(tmp_path, monkeypatch, space={}).space == {}

    @pytest.mark.parametrize(("name", "value"), [("family", "sdg"), ("family", 3), ("baseline", 3)])
    def test_family_and_baseline_are_names(self, name, value, tmp_path, monkeypatch):
        with pytest.raises(ValueError, match=rf"own.{name} must be .*, got {value!r}"):
            self.optimizer(tmp_path, monkeypatch, **{name: value})


def test_two_optimizers_of_one_name_are_refused():
    assert parse_sources(["a=m:x", "b=m:x"]) == {"a": "m:x", "b": "m:x"}
    with pytest.raises(ValueError, match="two --optimizer have the name 'a'"):
        parse_sources(["a=m:x", "b=m:x", "a=m:y"])


@pytest.mark.parametrize("baseline", ["sdg", "mine"])
def test_an_unknown_baseline(baseline, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(f"def own(p, lr): ...\nown.baseline = {baseline!r}\n")
    monkeypatch.setattr(preflight, "unresumable", lambda request: {})
    request = study.StudyRequest(
        *("digits", {}, ("sgd",), {"mine": f"{tmp_path}/mine.py:own"}, 1, 1, 1, False, "no"),
        *(1, False),
    )
    words = rf"mine.baseline is '{baseline}', expected another optimizer: sgd-plain, sgd, "
    with pytest.raises(ValueError, match=words):
        study.make_plan(request, tasks.make("digits", None, {}))
