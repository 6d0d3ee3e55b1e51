"""The user's own optimizers: how they are loaded, and what makes them different ones."""

import pytest

from tangential_lab.training import user_optimizer

OWN = """
import torch

def heavy(params, lr, momentum):
    return torch.optim.SGD(params, lr=lr, momentum=momentum)

heavy.space = {"lr": (1e-3, 1e-1), "momentum": (0.5, 0.99)}
heavy.family = "sgd"

def odd(params): ...
odd.space = {"lr": (1.0, 0.1)}
"""


def test_an_optimizer_comes_from_a_file_or_a_module(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    optimizer = user_optimizer(0, "heavy", f"{tmp_path}/mine.py:heavy")
    assert (optimizer.baselines, optimizer.family) == (("sgd",), "sgd")
    assert optimizer.space["momentum"] == (0.5, 0.99)
    assert user_optimizer(1, "nadam", "torch.optim:NAdam").space is None


def test_a_change_of_its_file_changes_an_optimizers_fingerprint(tmp_path):
    code = "from torch.optim import SGD\nclass Own(SGD):\n    pass\n"
    (tmp_path / "mine.py").write_text(code)
    before = user_optimizer(0, "own", f"{tmp_path}/mine.py:Own").about
    assert user_optimizer(0, "own", f"{tmp_path}/mine.py:Own").about == before
    (tmp_path / "mine.py").write_text(code + "    extra = 1\n")
    assert user_optimizer(0, "own", f"{tmp_path}/mine.py:Own").about != before


def test_a_change_of_its_module_changes_an_optimizers_fingerprint(tmp_path, monkeypatch):
    (tmp_path / "made_here.py").write_text("from torch.optim import SGD\nclass Own(SGD): ...\n")
    (tmp_path / "named_here.py").write_text("from made_here import Own\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = user_optimizer(0, "own", "named_here:Own").about
    (tmp_path / "made_here.py").write_text("from torch.optim import SGD\nclass Own(SGD): 1\n")
    assert user_optimizer(0, "own", "named_here:Own").about != before


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("torch.optim:Adamm", "module 'torch.optim' has no attribute 'Adamm'"),
        ("nowhere:x", "No module named 'nowhere'"),
        ("nothing", "expected module:factory or FILE.py:FACTORY"),
        ("missing.py:x", "there is no file 'missing.py'"),
    ],
)
def test_an_optimizer_that_cannot_be_imported_is_named(source, words):
    with pytest.raises(ValueError, match=r".") as error:
        user_optimizer(0, "mine", source)
    assert words in str(error.value)


def test_an_invalid_search_space_is_named(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(
        ValueError, match=r"odd.space\['lr'\] must be two finite .*, got \(1.0, 0.1\)"
    ):
        user_optimizer(0, "odd", f"{tmp_path}/mine.py:odd")
