"""The recipe of docs/own_optimizer.md: Muon for hidden matrices, AdamW for the rest."""

import copy
import re
from pathlib import Path

import pytest
import torch
from processes import call
from torch import nn
from torch.optim import AdamW, Muon

from tangential_lab.studies.workers import preflight
from tangential_lab.training import user_optimizer

GUIDE = (Path(__file__).parents[3] / "docs/own_optimizer.md").read_text("utf-8")
(RECIPE,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
POINT = {"lr": 0.02, "weight_decay": 0.1}


@pytest.fixture
def source(tmp_path):
    """The name of the recipe's class in a file."""
    (tmp_path / "mine.py").write_text(RECIPE, "utf-8")
    return f"{tmp_path}/mine.py:MuonAndAdamW"


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(65, 8), nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 8), nn.Linear(8, 10)
    )


def groups_of(model):
    """A group of each kind; the hidden one has another learning rate."""
    hidden = [model[1].weight, model[3].weight, model[3].bias]
    rest = [p for p in model.parameters() if all(p is not q for q in hidden)]
    kinds = {"scale_invariant": False, "hidden": False}
    return [{"params": rest, **kinds}, {"params": hidden, **kinds, "hidden": True, "lr": 0.002}]


def step(models, optimizers, number):
    """Step copies of a model on the same batch, at a learning rate that changes."""
    tokens = torch.randint(65, (16,), generator=torch.Generator().manual_seed(number))
    for model, some in zip(models, optimizers, strict=True):
        model.zero_grad()
        model(tokens).logsumexp(-1).square().mean().backward()
        for optimizer in some:
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
            optimizer.step()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_it_steps_as_muon_and_adamw_do(source):
    whole, apart = net(), net()
    optimizer = user_optimizer(0, "mine", source).build(groups_of(whole), **POINT)
    matrices = [apart[1].weight, apart[3].weight]
    rest, hidden = (group["params"] for group in groups_of(apart))
    split = [
        Muon(matrices, adjust_lr_fn="match_rms_adamw", **POINT | {"lr": 0.002}),
        AdamW([{"params": rest}, {"params": hidden[2:], "lr": 0.002}], **POINT),
    ]
    for number in range(5):
        step([whole, apart], [[optimizer], split], number)
        assert same(whole, apart)


def test_it_continues_from_its_state_dict(source):
    build = user_optimizer(0, "mine", source).build
    first = net()
    optimizer = build(groups_of(first), **POINT)
    for number in range(3):
        step([first], [[optimizer]], number)
    second = copy.deepcopy(first)
    resumed = build(groups_of(second), **POINT)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for number in range(3, 6):
        step([first, second], [[optimizer], [resumed]], number)
        assert same(first, second)


def test_the_recipe_is_short():
    assert len(RECIPE.splitlines()) <= 24


@pytest.mark.slow
@pytest.mark.parametrize("made", ["torch.optim:Muon", "mine.py:MuonAndAdamW"])
def test_the_error_about_muon_points_to_the_recipe_which_works(
    made, source, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sizes = ("--trials", 0, "--seeds", 1, "--epochs", 1, "--workers", 1)
    status, out, errors = call(
        capsys, "compare", "digits", "--optimizers", "adamw", "--optimizer", f"mine={made}", *sizes
    )
    if made == "torch.optim:Muon":
        assert status == 1
        assert "Muon only supports 2D parameters" in errors
        assert "docs/own_optimizer.md" in errors
    else:
        assert (status, errors) == (0, "")
        assert "mine" in out
        assert "not continue from its state_dict" not in out
    assert "docs/own_optimizer.md" in preflight.ADVICE
