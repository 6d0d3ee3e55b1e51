"""Steps that are hard to measure: lost in rounding, scaled, accumulated, sparse, or not finite."""

import math

import pytest
import torch
from monitored_nets import ADAM, OPTIMIZERS, losses, net, run
from torch import nn

from tangential import SGDP, AdamP, Monitor
from tangential.backends import native


@pytest.mark.parametrize("name", ["AdamP", "AdamW", "SGD", "SGDP nesterov buffer"])
def test_bfloat16_steps_lost_in_rounding_are_still_measured(name):
    small = {"lr": 1e-8, "weight_decay": 0.0}

    def build(p):
        optimizer = OPTIMIZERS[name](p)
        optimizer.param_groups[0].update(small)
        return optimizer

    wide, narrow = net(), net().to(torch.bfloat16)
    wide.load_state_dict({k: v.double() for k, v in narrow.state_dict().items()})
    before = narrow[3].weight.detach().clone()
    ours, twin = (run(build, 2, model=m, weights=True)[1] for m in (narrow, wide))
    assert torch.equal(narrow[3].weight, before)
    for column in ("update_norm", "effective_step", "growth_step"):
        for weight in ("3.weight", "4.bias", "7.weight"):
            key = f"{weight}/{column}"
            assert 0 < ours[key] == pytest.approx(twin[key], rel=0.2), key


def test_bfloat16_under_an_unknown_rule_has_no_update():
    values = run(OPTIMIZERS["RMSprop"], 1, model=net(torch.bfloat16), weights=True)[0]
    assert "3.weight/angle_rad" not in values
    assert "all/angle_rad" not in values
    assert values["3.weight/norm"] > 0


FUSED = {
    "AdamP": lambda p: AdamP(p, **ADAM),
    "AdamP foreach": lambda p: AdamP(p, foreach=True, **ADAM),
    "AdamW fused": lambda p: torch.optim.AdamW(p, fused=True, **ADAM),
    "AdamW": lambda p: torch.optim.AdamW(p, **ADAM),
}


@pytest.mark.parametrize("name", FUSED)
def test_gradients_under_amp_are_unscaled_and_skipped_steps_not_logged(name):
    plain_run = run(FUSED[name], 3, model=net(torch.float32), weights=True)
    model, logged = net(torch.float32), {}
    optimizer = FUSED[name](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with Monitor(model, optimizer, 1, lambda v, s: logged.update({s: v}), weights=True):
        for t, loss in enumerate(losses(model, 3)):
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            if t == 0:  # first a gradient that overflows, then the true ones again
                kept = [p.grad.clone() for p in model.parameters()]
                model[0].weight.grad[0] = torch.inf
                scaler.step(optimizer)
                scaler.update()
                for p, g in zip(model.parameters(), kept, strict=True):
                    p.grad = g * (scaler.get_scale() / 1024)
            scaler.step(optimizer)
            scaler.update()
    assert len(logged) == 3
    for found, values in zip(logged.values(), plain_run.values(), strict=True):
        assert found == pytest.approx(values, rel=1e-3, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("fused", [True, False])
def test_a_radial_update_that_is_projected_away_has_no_negative_growth(fused):
    # in a dead net, zero gradients fire the gate, and the update is rounding error
    torch.manual_seed(0)
    weights = nn.ParameterList(300 * torch.randn(1, 7) for _ in range(64))
    optimizer, logged = SGDP(weights, lr=0.1, momentum=0.9, fused=fused), []
    with Monitor(weights, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        for share in (1.0, 0.0):
            for w in weights:
                w.grad = share * w.detach()
            optimizer.step()
    found = [logged[1][f"{i}/growth_step"] for i in range(64)]
    assert all(0 <= value < 1e-6 for value in found)
    assert all(logged[1][f"{i}/gate_row"] == 1 for i in range(64))


def test_accumulated_gradients_are_one_step():
    def accumulated(model, logged):
        optimizer = OPTIMIZERS["AdamP"](model.parameters())
        with Monitor(model, optimizer, 1, lambda v, s: logged.append((s, v)), weights=True):
            for loss in losses(model, 2):
                optimizer.zero_grad()
                (loss / 2).backward(retain_graph=True)
                (loss / 2).backward()
                optimizer.step()

    logged = []
    accumulated(net(), logged)
    whole = run(OPTIMIZERS["AdamP"], 2, weights=True)
    assert [step for step, _ in logged] == [0, 1]
    for step, values in logged:
        assert values == pytest.approx(whole[step], rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", ["AdamP", "AdamW"])
def test_a_closure_computes_the_gradients_that_are_logged(name):
    model, logged = net(), {}
    optimizer = OPTIMIZERS[name](model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = next(batches)
        loss.backward()
        return loss

    with Monitor(model, optimizer, 1, lambda v, s: logged.update({s: v}), weights=True):
        batches = losses(model, 4)
        for _ in range(4):
            optimizer.step(closure)
    whole = run(OPTIMIZERS[name], weights=True)
    for step, values in whole.items():
        assert logged[step] == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize("name", ["AdamP", "AdamP foreach", "SGDP", "AdamW", "SGD"])
def test_a_logged_step_makes_one_transfer_to_the_host_and_others_none(name, monkeypatch):
    asked = []
    for question in ("tolist", "item", "__float__", "__bool__", "cpu", "numpy"):
        plainly = getattr(torch.Tensor, question)

        def counted(self, *args, question=question, plainly=plainly):
            asked.append(question)
            return plainly(self, *args)

        monkeypatch.setattr(torch.Tensor, question, counted)
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    counts = []
    with Monitor(model, optimizer, 2, lambda values, step: None):
        for loss in losses(model, 4):
            loss.backward()
            before = len(asked)
            optimizer.step()
            counts.append(asked[before:].count("tolist"))
            rest = [question for question in asked[before:] if question != "tolist"]
            counts.append(len(rest))
    # what torch's own step asks, it asks in every step
    assert counts[0::2] == [1, 0, 1, 0]
    assert counts[1] <= counts[3] == counts[5] == counts[7]  # the first has no counts to check


def test_a_diverged_weight_is_logged_as_nan():
    model = net()
    optimizer, logged = OPTIMIZERS["SGD"](model.parameters()), []
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        for t, loss in enumerate(losses(model, 2)):
            loss.backward()
            if t == 0:
                model[0].weight.grad[0, 0, 0, 0] = torch.nan
            optimizer.step()
    assert math.isnan(logged[0]["0.weight/grad_norm"])
    assert logged[0]["0.weight/norm"] > 0
    assert math.isnan(logged[1]["0.weight/norm"])


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "AdamP", "AdamP foreach"])
def test_a_default_device_changes_nothing(name, kernel, monkeypatch):
    if not kernel:
        monkeypatch.setattr(native, "can_measure", lambda change: False)
    whole = run(OPTIMIZERS[name], 3, weights=True)
    model, logged = net(), {}
    optimizer = OPTIMIZERS[name](model.parameters())
    with Monitor(model, optimizer, 1, lambda v, s: logged.update({s: v}), weights=True):
        for t, loss in enumerate(losses(model, 3)):
            optimizer.zero_grad()
            loss.backward()
            if t == 0:
                optimizer.step()  # which creates the optimizer's state
                continue
            with torch.device("meta"):
                optimizer.step()
    assert logged == whole


def test_kernel_and_torch_measure_other_optimizers_alike(monkeypatch):
    kernel = run(OPTIMIZERS["AdamW"], 3, weights=True)
    monkeypatch.setattr(native, "can_measure", lambda change: False)
    for step, values in run(OPTIMIZERS["AdamW"], 3, weights=True).items():
        assert kernel[step] == pytest.approx(values, rel=1e-9, abs=1e-12, nan_ok=True)


def test_sparse_gradients_are_measured_as_dense_ones():
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 3)).double()
    optimizer, logged = torch.optim.SGD(model.parameters(), lr=0.1), []
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        model(torch.tensor([1, 2, 2])).pow(2).sum().backward()
        norm = model[0].weight.grad.to_dense().norm().item()
        optimizer.step()
    assert logged[0]["0.weight/grad_norm"] == pytest.approx(norm)
    assert logged[0]["0.weight/update_norm"] == pytest.approx(0.1 * norm)
