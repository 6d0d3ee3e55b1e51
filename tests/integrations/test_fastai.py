"""AdamP under fastai, which is not among our dependencies, because it needs spaCy."""

import copy
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential import AdamP

pytest.importorskip("fastai")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of other libraries

GUIDE = (Path(__file__).parents[2] / "docs/integrations.md").read_text("utf-8")
(PROGRAM,) = re.findall(r"```py\n(.*?)```", GUIDE, re.S)
OPTIONS = {"lr": 1e-3, "weight_decay": 0.01}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.Linear(16, 3))


def loader():
    torch.manual_seed(1)
    return DataLoader(TensorDataset(torch.randn(64, 8), torch.randint(3, (64,))), 16)


def test_the_program_runs():
    names = {"AdamP": AdamP, "nn": nn, "net": net, "loader": loader()}
    exec(PROGRAM, names)
    optimizer = names["learner"].opt.opt
    assert type(optimizer) is AdamP
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01]


def test_an_epoch_is_a_plain_loop():
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    batches, model = loader(), net()
    plain = copy.deepcopy(model)
    opt_func = partial(OptimWrapper, opt=AdamP)
    loss = nn.CrossEntropyLoss()
    data = DataLoaders(batches, batches)
    Learner(data, model, loss, opt_func=opt_func, lr=1e-3, wd=0.01).fit(2)
    optimizer = AdamP(plain.parameters(), **OPTIONS)
    for x, y in [*batches, *batches]:
        optimizer.zero_grad()
        loss(plain(x), y).backward()
        optimizer.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
