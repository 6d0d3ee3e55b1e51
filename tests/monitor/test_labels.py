"""An audit is matched with the monitored model, in its wrappers or inside another model."""

import pytest
import torch
from monitored_nets import OPTIMIZERS, losses_batch, net, run, train
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from tangential import Monitor, audit


def test_an_audit_decides_units_and_invariance():
    model = nn.Sequential(nn.ConvTranspose2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten())
    model.append(nn.Linear(400, 10)).double()
    found = audit(model, [torch.randn(8, 1, 8, 8, dtype=torch.float64) for _ in range(3)])
    values = run(OPTIMIZERS["AdamW"], 2, model=model, weights=True, audit=found)[1]
    assert (values["0.weight/invariant"], values["3.weight/invariant"]) == (1.0, 0.0)
    assert values["0.weight/cosine"] < 1e-2  # by row of axis 1
    without = run(OPTIMIZERS["AdamW"], 2, model=model, weights=True)[1]
    assert "0.weight/invariant" not in without


class Twice(nn.Module):
    """A model inside another one that has its own weight, as in a LightningModule."""

    def __init__(self, model):
        super().__init__()
        self.proxies, self.model = nn.Parameter(torch.ones(4, 4).double()), model

    def forward(self, x):
        return self.model(x)


def compiled(model):
    return torch.compile(model, backend="eager")


WRAPPERS = {
    "plain": lambda m: m,
    "compiled": compiled,
    "parallel": nn.DataParallel,
    "compiled parallel": lambda m: compiled(nn.DataParallel(m)),
    "parallel compiled": lambda m: nn.DataParallel(compiled(m)),
    "checkpointed": lambda m: nn.Sequential(*map(checkpoint_wrapper, m)),
    "averaged": torch.optim.swa_utils.AveragedModel,
    "part": Twice,
    "compiled part": lambda m: Twice(compiled(m)),
    "part of a part": lambda m: compiled(Twice(nn.Sequential(nn.DataParallel(m)))),
}


@pytest.mark.parametrize("audited", ["plain", "compiled", "parallel"])
@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("make", [OPTIMIZERS["AdamP"], OPTIMIZERS["AdamW"]])
@pytest.mark.slow
def test_an_audit_fits_the_model_in_its_wrappers(make, name, audited):
    model = net()
    found = audit(WRAPPERS[audited](model), [losses_batch(k) for k in range(3)])
    whole = WRAPPERS[name](model)
    optimizer, logged = make(whole.parameters()), []
    with Monitor(whole, optimizer, 1, lambda v, s: logged.append(v), weights=True, audit=found):
        train(whole, optimizer, 1)
    known = {k: v for k, v in logged[0].items() if k.endswith("/invariant")}
    assert sum(known.values()) == 2
    assert len(known) == 8
    assert not any(part in key for key in logged[0] for part in ("_orig_mod", "_wrapped_module"))
    prefix = "model." if "part" in name and "parallel" not in name else ""
    if name in ("plain", "compiled", "parallel", "part", "compiled part", "checkpointed"):
        assert known[f"{prefix}3.weight/invariant"] == 1


@pytest.mark.slow
def test_a_part_of_the_audited_model_is_monitored():
    model = net()
    found = audit(compiled(model), [losses_batch(k) for k in range(3)])
    whole = nn.Sequential(model)
    outer = audit(whole, [losses_batch(k) for k in range(3)])
    for given in (found, outer):
        optimizer, logged = torch.optim.SGD(model.parameters(), lr=0.1), []
        with Monitor(
            model, optimizer, 1, lambda v, s, to=logged: to.append(v), weights=True, audit=given
        ):
            train(model, optimizer, 1)
        assert (logged[0]["3.weight/invariant"], logged[0]["7.weight/invariant"]) == (1, 0)


def test_tied_weights_may_have_another_first_name():
    class Tied(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.head = model[7]
            self.model = model

        def forward(self, x):
            return self.model(x)

    model = net()
    found = audit(model, [losses_batch(k) for k in range(3)])
    whole = Tied(model)
    optimizer, logged = torch.optim.SGD(whole.parameters(), lr=0.1), []
    with Monitor(whole, optimizer, 1, lambda v, s: logged.append(v), weights=True, audit=found):
        train(whole, optimizer, 1)
    assert (logged[0]["head.weight/invariant"], logged[0]["model.3.weight/invariant"]) == (0, 1)


def test_an_audit_of_another_model_is_refused():
    model, other = net(), net()
    found = audit(other, [losses_batch(k) for k in range(3)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[7] = nn.Linear(24, 5).double()  # of another shape
    optimizer.add_param_group({"params": [*model[7].parameters()]})
    with pytest.raises(ValueError, match=r"audit must be of this model: .*7\.weight \(5, 24\)"):
        Monitor(model, optimizer, audit=found)
    named = nn.ModuleDict({"conv": nn.Conv2d(1, 4, 3)})
    optimizer = torch.optim.SGD(named.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"no line for conv\.weight .* it has 0\.weight"):
        Monitor(named, optimizer, audit=found)
    twins = nn.ModuleDict({"a": net(), "b": net()})
    optimizer = torch.optim.SGD(twins.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="audit fits 2 modules of the model equally"):
        Monitor(twins, optimizer, audit=found)
    Monitor(twins, torch.optim.SGD(twins["b"].parameters(), lr=0.1), audit=found).close()
    assert not optimizer._optimizer_step_pre_hooks


def test_weights_that_come_after_the_audit_are_measured_without_it():
    model, logged = net(), []
    found = audit(model, [losses_batch(k) for k in range(3)])
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True, audit=found):
        model.append(nn.Linear(10, 10).double())
        optimizer.add_param_group({"params": [*model[8].parameters()]})
        train(model, optimizer, 1)
    assert logged[0]["8.weight/norm"] > 0
    assert "8.weight/invariant" not in logged[0]
    assert logged[0]["3.weight/invariant"] == 1
