"""Every number of the monitor against a plain re-computation on a twin that nobody watches."""

import copy
import gc
import math
import weakref
from pathlib import Path

import numpy
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.functional import cross_entropy

import tangential.monitor.sinks
from tangential import SGDP, AdamP, Monitor, audit
from tangential.backends import native
from tangential.monitor.monitor import UNITS
from tangential.monitor.monitors import Monitors
from tangential.monitor.motion import steps_to_equilibrium

STEPS = 50
X, Y = (torch.tensor(x) for x in load_digits(return_X_y=True))
SGDM = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-2}
ADAM = {"lr": 1e-2, "weight_decay": 1e-1}
OPTIMIZERS = {
    "AdamP": lambda p: AdamP(p, **ADAM),
    "AdamP foreach": lambda p: AdamP(p, foreach=True, **ADAM),
    "AdamP eager": lambda p: AdamP(p, foreach=False, **ADAM),
    "AdamP nesterov": lambda p: AdamP(p, nesterov=True, **ADAM),
    "AdamP caution": lambda p: AdamP(p, caution=True, lr=1e-2),
    "AdamP weight": lambda p: AdamP(p, projection="weight", **ADAM),
    "AdamP off": lambda p: AdamP(p, projection="off", **ADAM),
    "SGDP": lambda p: SGDP(p, **SGDM),
    "SGDP nesterov buffer": lambda p: SGDP(p, nesterov=True, **SGDM),
    "SGDP buffer": lambda p: SGDP(p, project_buffer=True, **SGDM),
    "AdamW": lambda p: torch.optim.AdamW(p, **ADAM),
    "Adam": lambda p: torch.optim.Adam(p, **ADAM),
    "SGD": lambda p: torch.optim.SGD(p, **SGDM),
    "SGD dampening": lambda p: torch.optim.SGD(p, dampening=0.5, **SGDM),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


def net(dtype=torch.float64):
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24, 10)),
    )
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)  # of a weight of norm zero there is no direction
    return nn.Sequential(*layers).to(dtype)


def losses(model, steps=STEPS, batch=32):
    """The losses of a small real training; the caller takes the steps."""
    dtype = next(model.parameters()).dtype
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(0, len(X), (batch,), generator=generator)
        images = (X[chosen].view(-1, 1, 8, 8) / 16).to(dtype)
        yield cross_entropy(model(images), Y[chosen])


def losses_batch(number):
    """A batch of images."""
    generator = torch.Generator().manual_seed(number)
    return torch.randn(8, 1, 8, 8, generator=generator, dtype=torch.float64)


def rows_of(x, by_row):
    x = x.detach().double()
    return x.flatten(1) if by_row and x.dim() > 1 else x.reshape(1, -1)


def rms(x):
    return x.square().mean().sqrt().item()


def plain(w, g, after, *, keep, by_row):
    """The columns that follow from a weight, its gradient, what it became, and a in a w + e."""
    w, g, after = (rows_of(x, by_row) for x in (w, g, after))
    e, fan = after - keep * w, w.shape[1]
    ww, unit = w.square().sum(), w / w.norm(dim=1)[:, None]
    unit_after = after / after.norm(dim=1)[:, None]
    seen = g.norm(dim=1) > 0  # a channel that ReLU holds at zero says nothing
    cosines = ((w * g).sum(1) / (w.norm(dim=1) * g.norm(dim=1)))[seen]
    chords = (unit_after - unit).norm(dim=1)
    radial = ((e * unit).sum(1)[:, None] * unit).norm() / e.norm()
    return {
        "norm": w.norm().item(),
        "grad_norm": g.norm().item(),
        "update_norm": (after - w).norm().item(),
        "cosine": fan**0.5 * rms(cosines),
        "radial_share": radial.item(),
        "effective_step": rms(chords),
        "angle_rad": rms(2 * torch.asin(chords / 2)),
        "growth_step": (e.square().sum() / ww).item(),
        "growth_memory": (2 * keep * (e * w).sum() / ww).item(),
        "growth_decay": keep**2 - 1,
    }


def gate(w, g, delta=0.1):
    """The published gate: by row, by weight."""
    if w.dim() < 2:
        return 0.0, 0.0

    def orthogonal(x, y):
        norms = x.norm(dim=1).clamp_min(1e-8) * y.norm(dim=1).clamp_min(1e-8)
        return abs((x * y).sum(1)) / norms < delta / x.shape[1] ** 0.5

    by_row = bool(orthogonal(rows_of(w, True), rows_of(g, True)).all())
    whole = bool(orthogonal(rows_of(w, False), rows_of(g, False)).all())
    return float(by_row), float(whole and not by_row)


def expected(name, options, w, g, after):
    """All columns but the equilibrium's, for an optimizer of this table."""
    row, whole = gate(w, g)
    projected, lr, decay = "P" in name.split()[0] and "RMS" not in name, options["lr"], 0.0
    if name == "AdamP weight":
        row, whole = 0.0, 1.0
    if name == "AdamP off":
        row, whole = 0.0, 0.0
    if projected:
        decay = options["weight_decay"] / (0.1 if "SGDP" in name else 1)
        decay *= 0.1 if row or whole else 1
    if name == "AdamW":
        decay = options["weight_decay"]
    values = plain(w, g, after, keep=1 - lr * decay, by_row=name != "AdamP weight")
    if "SGD" in name and not projected:
        rate = lr * options["weight_decay"] * (1 - options.get("dampening", 0)) / 0.1
        values["growth_memory"] += 2 * rate
        values["growth_decay"] = -2 * rate
    return values | {"gate_row": row, "gate_weight": whole, "lr": lr}


MOTION = ("growth_memory", "effective_step", "angle_rad")


def tolerance(column, wanted, exact):
    """Of rounding: what cancels is as exact as what it is the difference of."""
    whole = {"cosine": 1.0, "radial_share": 1.0}
    whole |= dict.fromkeys(MOTION, wanted["update_norm"] / wanted["norm"])
    return exact * max(abs(wanted[column]), whole.get(column, 0.0))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_number_is_that_of_a_plain_twin(name, dtype):
    watched = net(dtype)
    twin, logged = copy.deepcopy(watched), []
    ours, plain_one = (OPTIMIZERS[name](m.parameters()) for m in (watched, twin))
    options, seen = ours.param_groups[0], 0
    exact = 1e-7 if dtype == torch.float64 else 1e-3
    monitor = Monitor(watched, ours, 1, lambda v, s: logged.append(v), weights=True)
    pairs = zip(losses(watched), losses(twin), strict=True)
    with monitor:
        for t, both in enumerate(pairs):
            for loss, optimizer in zip(both, (ours, plain_one), strict=True):
                optimizer.zero_grad()
                loss.backward()
            before = {n: p.detach().clone() for n, p in twin.named_parameters()}
            ours.step()
            plain_one.step()
            for n, p in twin.named_parameters():
                assert torch.equal(p, watched.get_parameter(n))  # to be watched changes nothing
                wanted = expected(name, options, before[n], p.grad, p)
                for column, value in wanted.items():
                    found = logged[t].get(f"{n}/{column}", math.nan)  # what is undefined is not
                    near = pytest.approx(value, abs=tolerance(column, wanted, exact), nan_ok=True)
                    assert found == near, (t, n, column)
                    seen += 1
    assert seen == STEPS * 8 * 13


def run(build, steps=4, every=1, model=None, **options):
    """What a monitor tells of a short training."""
    model, logged = model or net(), {}
    optimizer = build(model.parameters())
    with Monitor(model, optimizer, every, lambda v, s: logged.update({s: v}), **options):
        for loss in losses(model, steps):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return logged


EQUILIBRIA = {  # 3.weight is projected by the optimizers that project
    "AdamP": (2 * 1e-2 * 1e-1 * 0.1) ** 0.5,
    "AdamW": (2 * 1e-2 * 1e-1 / 19) ** 0.5,
    "SGDP": (2 * 0.05 * 1e-2 * 0.1 / 0.1) ** 0.5,
    "SGD": (2 * 0.05 * 1e-2 / 1.9) ** 0.5,
    "AdamP off": (2 * 1e-2 * 1e-1 / 19) ** 0.5,
    "Adam": math.nan,
    "RMSprop": math.nan,
}


@pytest.mark.parametrize("name", EQUILIBRIA)
def test_equilibrium_is_that_of_optimizer_and_settings(name):
    values = run(OPTIMIZERS[name], weights=True)[3]
    found = {n: values.get(f"3.weight/{n}") for n in ("equilibrium_rad", "steps_to_equilibrium")}
    if math.isnan(EQUILIBRIA[name]):
        assert found == {"equilibrium_rad": None, "steps_to_equilibrium": None}
        assert "all/equilibrium_rad" not in values
    else:
        assert found["equilibrium_rad"] == pytest.approx(EQUILIBRIA[name])
        assert found["steps_to_equilibrium"] >= 0


@pytest.mark.parametrize(
    ("build", "start"),
    [
        (lambda p: SGDP(p, lr=0.1, momentum=0.9, weight_decay=1e-2), 1.0),
        (lambda p: AdamP(p, lr=0.1, weight_decay=0.2), 4.0),
        (lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.2), 1.0),
    ],
    ids=["SGDP", "AdamP", "AdamW"],
)
def test_weights_are_at_equilibrium_when_the_monitor_said_so(build, start):
    """Rows that only their directions matter of, driven by noise, from far away."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(64, 128, bias=False, dtype=torch.float64)
    nn.init.normal_(model.weight, std=start, generator=generator)
    optimizer, logged = build(model.parameters()), []

    def train(steps):
        with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
            for _ in range(steps):
                noise = torch.randn(128, 64, generator=generator, dtype=torch.float64)
                optimizer.zero_grad()
                (nn.functional.normalize(model.weight, dim=1) * noise).sum().backward()
                optimizer.step()

    train(30)  # until momentum is full
    said = logged[-1]["weight/steps_to_equilibrium"]
    assert 20 < said < 3000
    train(int(said))
    last = [values["weight/angle_rad"] for values in logged[-10:]]
    assert sum(last) / 10 == pytest.approx(logged[-1]["weight/equilibrium_rad"], rel=0.2)
    assert logged[-1]["weight/steps_to_equilibrium"] < said / 4


@pytest.mark.parametrize("name", ["AdamP", "AdamW", "SGD", "SGDP nesterov buffer"])
def test_bfloat16_steps_that_rounding_loses_are_measured_all_the_same(name):
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


def test_bfloat16_under_a_rule_that_is_not_known_has_no_update():
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
            if t == 0:  # the same gradients again, and one that overflows before them
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


def test_a_weight_that_hardly_turns_is_infinitely_far_from_equilibrium():
    assert steps_to_equilibrium(1e-200, 1e-4, adaptive=True) == math.inf


@pytest.mark.parametrize("fused", [True, False])
def test_an_update_that_is_radial_and_projected_away_is_none_not_less(fused):
    # a net that died: gradients of zero fire the gate, and only rounding is left of the update
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
def test_one_transfer_to_the_host_for_a_logged_step_and_none_for_another(name, monkeypatch):
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
    # whatever torch's own step asks, it asks at every step
    assert counts[0::2] == [1, 0, 1, 0]
    assert counts[1] <= counts[3] == counts[5] == counts[7]  # the first has no counts to check


def test_every_and_step_and_aggregates_alone():
    logged = run(OPTIMIZERS["AdamP"], 7, every=3, step=2)
    assert list(logged) == [3, 6]
    labels = {key.split("/")[0] for values in logged.values() for key in values}
    assert labels == {"all", "early", "middle", "late"}
    assert logged[3]["all/lr"] == 1e-2


def test_a_sink_decides_for_itself_whether_it_wants_weights():
    class Sink(list):
        weights = True
        closed = 0

        def __call__(self, values, step):
            self.append(values)

        def close(self):
            self.closed += 1

    sink, plain_sink = Sink(), []
    model = net()
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    with Monitor(model, optimizer, 1, [sink, lambda v, s: plain_sink.append(v)]):
        for loss in losses(model, 1):
            loss.backward()
            optimizer.step()
    assert "0.weight/norm" in sink[0]
    assert "0.weight/norm" not in plain_sink[0]
    assert sink.closed == 1


def test_closed_it_lets_go():
    model = net()
    optimizer, logged = OPTIMIZERS["AdamP"](model.parameters()), []
    Monitor(model, optimizer, 1, lambda v, s: logged.append(v)).close()
    for loss in losses(model, 1):
        loss.backward()
        optimizer.step()
    assert not logged
    assert not optimizer._optimizer_step_pre_hooks


def test_memory_share_is_that_of_scale_invariant_weights():
    values = run(OPTIMIZERS["AdamW"], 20, weights=True)[19]
    known = [f"{n}/growth_" for n in ("0.weight", "3.weight")]  # and not the classifier
    memory, step = (sum(values[n + part] for n in known) for part in ("memory", "step"))
    assert values["all/memory_share"] == pytest.approx(memory / (memory + step))


def test_an_audit_names_the_units_and_what_is_invariant():
    model = nn.Sequential(nn.ConvTranspose2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten())
    model.append(nn.Linear(400, 10)).double()
    found = audit(model, [torch.randn(8, 1, 8, 8, dtype=torch.float64) for _ in range(3)])
    values = run(OPTIMIZERS["AdamW"], 2, model=model, weights=True, audit=found)[1]
    assert (values["0.weight/invariant"], values["3.weight/invariant"]) == (1.0, 0.0)
    assert values["0.weight/cosine"] < 1e-2  # by row of axis 1
    without = run(OPTIMIZERS["AdamW"], 2, model=model, weights=True)[1]
    assert UNITS.row_axis == 0
    assert "0.weight/invariant" not in without


def test_frozen_normalisation_is_named():
    model = net()
    model[4].eval()
    values = run(OPTIMIZERS["SGD"], 1, model=model, weights=True)[0]
    assert (values["all/frozen_norms"], values["4/frozen"]) == (1.0, 1.0)


def test_wrappers_are_looked_through():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    model = net()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Monitor(model, Wrapper(inner)).optimizer is inner
    with pytest.raises(TypeError, match="optimizer is a Linear, allowed is"):
        Monitor(model, nn.Linear(1, 1))
    with pytest.raises(ValueError, match="no weight of the model"):
        Monitor(model, optimizer)


@pytest.mark.parametrize("every", [0, -1, 1.5, "often"])
def test_every_must_be_a_positive_integer(every):
    model = net()
    with pytest.raises(ValueError, match=f"every is {every!r}, allowed is"):
        Monitor(model, torch.optim.SGD(model.parameters(), lr=0.1), every)


# ---- models and optimizers that differ, wrappers


def train(model, optimizer, steps=2):
    for loss in losses(model, steps):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


EVERY_KIND = pytest.mark.parametrize(
    "make",
    [
        lambda p: AdamP(p, lr=1e-2),
        lambda p: AdamP(p, lr=1e-2, foreach=True),
        lambda p: AdamP(p, lr=1e-2, caution=True),
        lambda p: SGDP(p, lr=1e-2),
        lambda p: torch.optim.AdamW(p, lr=1e-2),
        lambda p: torch.optim.SGD(p, lr=1e-2),
    ],
    ids=["AdamP", "foreach", "caution", "SGDP", "AdamW", "SGD"],
)


@EVERY_KIND
def test_weights_that_the_model_lacks_are_left_out(make):
    model, proxies, logged = net(), nn.Parameter(torch.randn(10, 24).double()), []
    optimizer = make([*model.parameters(), proxies])
    twin = net()
    plain_run = run(make, 2, model=twin, weights=True)
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        for loss in losses(model, 2):
            optimizer.zero_grad()
            (loss + proxies.square().sum()).backward()
            optimizer.step()
    assert logged == [plain_run[0], plain_run[1]]
    assert not torch.equal(proxies.grad, torch.zeros_like(proxies))


@EVERY_KIND
def test_weights_that_the_optimizer_lacks_or_gets_later(make):
    model, logged = net(), []
    optimizer = make([model[0].weight])
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        train(model, optimizer, 1)
        optimizer.add_param_group({"params": [*model[3:].parameters()]})
        train(model, optimizer, 1)
        model[7] = nn.Linear(24, 10).double()
        optimizer.add_param_group({"params": [*model[7].parameters()]})  # beside the one replaced
        train(model, optimizer, 1)
    names = [{key.rpartition("/")[0] for key in values if "norm" in key} for values in logged]
    groups = {"all", "early"}, {"all", "early", "middle", "late"}
    rest = {"3.weight", "4.weight", "4.bias", "7.weight", "7.bias"}
    assert names[0] == {"0.weight", *groups[0]}
    assert names[1] == names[2] == {"0.weight", *rest, *groups[1]}


def test_a_module_that_is_lazy_and_never_used():
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "spare": nn.LazyLinear(2)})
    optimizer, logged = torch.optim.SGD(model.parameters(), lr=0.1), []
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        model["used"](torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    assert logged[0]["used.weight/norm"] > 0
    assert "spare.weight/norm" not in logged[0]


def test_an_optimizer_that_chooses_its_own_lr():
    class Own(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                p -= 0.1 * p.grad

    model, logged = net(), []
    optimizer = Own(model.parameters(), {"lr": None})  # as Adafactor has it
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        train(model, optimizer, 1)
    assert logged[0]["3.weight/norm"] > 0
    assert "3.weight/lr" not in logged[0]


@pytest.mark.parametrize("base", [AdamP, torch.optim.AdamW])
def test_a_step_that_calls_the_one_of_its_base_is_one_step(base):
    base(net().parameters(), lr=1e-2)  # torch has now put the hooks around the base's step

    class Own(base):
        def step(self, closure=None):
            return super().step(closure)

    ours, plain_run = run(lambda p: Own(p, lr=1e-2), 3), run(lambda p: base(p, lr=1e-2), 3)
    assert [*ours] == [0, 1, 2]
    for step, values in ours.items():
        for name in ("norm", "angle_rad", "effective_step"):
            assert values[f"all/{name}"] == pytest.approx(plain_run[step][f"all/{name}"])


def test_a_compiled_step_is_not_monitored():
    model, logged = net(), []
    optimizer = AdamP(model.parameters(), lr=torch.tensor(1e-2), foreach=False)
    step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v)):
        for loss in losses(model, 2):
            optimizer.zero_grad()
            loss.backward()
            step()
    assert not logged
    assert optimizer.watch is None


class Twice(nn.Module):
    """A model in a model, as a LightningModule has it, with a weight of its own."""

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


# ---- several monitors


@EVERY_KIND
@pytest.mark.parametrize("first_closed", [0, 1])
def test_two_monitors_of_one_optimizer(make, first_closed):
    alone = run(make, 6, weights=True)
    model, logged = net(), ([], [])
    optimizer = make(model.parameters())
    monitors = [
        Monitor(model, optimizer, every, lambda v, s, to=to: to.append((s, v)), weights=True)
        for every, to in zip((1, 2), logged, strict=True)
    ]
    for t, loss in enumerate(losses(model, 6)):
        if t == 3:
            monitors[first_closed].close()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    monitors[1 - first_closed].close()
    until = [3 if number == first_closed else 6 for number in range(2)]
    for number, every in enumerate((1, 2)):
        assert logged[number] == [(t, alone[t]) for t in range(0, until[number], every)]
    assert getattr(optimizer, "watch", None) is None


def test_two_monitors_and_a_step_that_raises():
    model, logged = net(), ([], [])
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    monitors = [
        Monitor(model, optimizer, 1, lambda v, s, to=to: to.append(v), weights=True)
        for to in logged
    ]
    for t, loss in enumerate(losses(model, 3)):
        loss.backward()
        if t == 1:
            optimizer.param_groups[0]["lr"] = -1.0
            with pytest.raises(ValueError, match="lr"):
                optimizer.step()
            optimizer.param_groups[0]["lr"] = 1e-2
            monitors[0].close()
            assert optimizer.watch is not None  # the other one goes on
        optimizer.step()
    monitors[1].close()
    assert optimizer.watch is None
    assert logged[0] == logged[1][:1]
    assert len(logged[1]) == 3


def test_a_watcher_of_ones_own_is_kept():
    model, seen = net(), []
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    optimizer.watch = seen.append
    with Monitor(model, optimizer, 1, lambda v, s: None):
        train(model, optimizer, 1)
    assert len(seen) == 1
    assert optimizer.watch(1) is None
    assert seen[1] == 1


# ---- what is undefined, what is dropped


@pytest.mark.parametrize("count", range(1, 9))
def test_thirds_are_as_equal_as_can_be_and_empty_ones_left_out(count):
    torch.manual_seed(0)
    model, logged = nn.Sequential(*(nn.Linear(3, 3) for _ in range(count))), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    values = logged[0]
    norms = [values[f"{i}.weight/norm"] for i in range(count)]
    parts = torch.tensor(norms, dtype=torch.float64).tensor_split(3)
    for depth, part in zip(("early", "middle", "late"), parts, strict=True):
        wanted = pytest.approx(part.mean().item()) if len(part) else None
        assert values.get(f"{depth}/norm") == wanted
    assert all(value == value for value in values.values())


def test_a_run_that_diverged_says_so():
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


@EVERY_KIND
def test_the_monitor_keeps_no_weight_alive(make):
    model, spare = net(), nn.Linear(24, 10).double()
    model[7] = nn.Sequential(model[7])
    optimizer = make(model.parameters())
    optimizer.add_param_group({"params": [*spare.parameters()]})
    monitor = Monitor(nn.ModuleList([model, spare]), optimizer, 1, lambda v, s: None)
    for loss in losses(model, 1):
        loss.backward()
        optimizer.step()
    gone = weakref.ref(spare.weight)
    del monitor.model[1], spare
    for p in optimizer.param_groups.pop()["params"]:
        optimizer.state.pop(p, None)
    del p
    optimizer.step()  # at which the kernel forgets the group
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        ("run.csv", r"got 'run\.csv': use tangential\.monitor\.sinks\.csv\('run\.csv'\)"),
        (Path("run.csv"), r"got 'run\.csv': use tangential\.monitor\.sinks\.csv"),
        (["run.csv"], r"got 'run\.csv': use"),
        (5, "got a int"),
        ([None], "got a NoneType"),
        ([len], "got len"),
        (lambda values: None, "got <lambda>"),
        ([tangential.monitor.sinks.memory], "got memory"),
    ],
)
def test_sinks_that_cannot_be_called_are_refused_at_once(sinks, said):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=rf"sinks must be callables \(values, step\), {said}"):
        Monitor(model, optimizer, sinks=sinks)
    assert not optimizer._optimizer_step_pre_hooks


def test_an_audit_that_is_none_is_refused():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"audit must be what tangential\.audit.* got <function"):
        Monitor(model, optimizer, audit=audit)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "AdamP", "AdamP foreach"])
def test_a_default_device_is_none_of_the_monitors(name, kernel, monkeypatch):
    if not kernel:
        monkeypatch.setattr(native, "takes", lambda move: False)
    whole = run(OPTIMIZERS[name], 3, weights=True)
    model, logged = net(), {}
    optimizer = OPTIMIZERS[name](model.parameters())
    with Monitor(model, optimizer, 1, lambda v, s: logged.update({s: v}), weights=True):
        for t, loss in enumerate(losses(model, 3)):
            optimizer.zero_grad()
            loss.backward()
            if t == 0:
                optimizer.step()  # which makes the optimizer's own states
                continue
            with torch.device("meta"):
                optimizer.step()
    assert logged == whole


def test_an_error_in_a_step_leaves_no_watch_behind():
    model = net()
    optimizer, logged = OPTIMIZERS["AdamP"](model.parameters()), []
    monitor = Monitor(model, optimizer, 1, lambda v, s: logged.append(s))
    for t, loss in enumerate(losses(model, 2)):
        loss.backward()
        if t == 0:
            optimizer.param_groups[0]["lr"] = -1.0
            with pytest.raises(ValueError, match="lr"):
                optimizer.step()
            optimizer.param_groups[0]["lr"] = 1e-2
        optimizer.step()
    monitor.close()
    assert logged == [0, 1]
    assert optimizer.watch is None


def test_a_sink_that_fails_is_heard_and_costs_neither_step_nor_number():
    def failing(values, step):
        if step == 1:
            raise OSError("no space left")

    model = net()
    optimizer, logged = OPTIMIZERS["AdamP"](model.parameters()), []
    with Monitor(model, optimizer, 1, [lambda v, s: logged.append(s), failing]):
        for t, loss in enumerate(losses(model, 3)):
            loss.backward()
            before = model[0].weight.detach().clone()
            if t == 1:
                with pytest.raises(OSError, match="no space"):
                    optimizer.step()
            else:
                optimizer.step()
            assert not torch.equal(before, model[0].weight)
    assert logged == [0, 1, 2]


def test_every_sink_is_closed_though_one_fails_to():
    class Sink:
        closed = False

        def __init__(self, error):
            self.error = error

        def __call__(self, values, step):
            pass

        def close(self):
            self.closed = True
            if self.error:
                raise self.error

    model, sinks = net(), [Sink(OSError("full")), Sink(None)]
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    with pytest.raises(OSError, match="full"):
        Monitor(model, optimizer, 1, sinks).close()
    assert [sink.closed for sink in sinks] == [True, True]


def test_kernel_and_torch_measure_other_optimizers_alike(monkeypatch):
    kernel = run(OPTIMIZERS["AdamW"], 3, weights=True)
    monkeypatch.setattr(native, "takes", lambda move: False)
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


BAD_STEPS = [1.5, True, -1, "a", None, math.nan, math.inf, torch.tensor(True), torch.zeros(2), [3]]


@pytest.mark.parametrize("step", BAD_STEPS, ids=repr)
def test_a_step_that_is_no_integer_is_refused(step):
    model = net()
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    with pytest.raises(ValueError, match=r"step must be an integer >= 0, got "):
        Monitor(model, optimizer, step=step)
    with Monitor(model, optimizer) as monitor:
        with pytest.raises(ValueError, match=r"step must be an integer >= 0, got "):
            monitor.step = step
        assert monitor.step == 0


def test_a_step_that_files_have_no_room_for_is_refused():
    model = net()
    with pytest.raises(ValueError, match=r"step must be less than 2\*\*63, got 1e\+30"):
        Monitor(model, OPTIMIZERS["AdamP"](model.parameters()), step=1e30)


@pytest.mark.parametrize(
    "step", [3, 3.0, torch.tensor(3.0), torch.tensor([3]), numpy.int64(3), numpy.float32(3)]
)
def test_an_integral_step_of_any_type_becomes_an_int(step):
    model, logged = net(), []
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    with Monitor(model, optimizer, 1, lambda _, number: logged.append(number), step=step) as first:
        for loss in losses(model, 2):
            loss.backward()
            optimizer.step()
        first.step = step
        assert type(first.step) is int
    assert logged == [3, 4]
    assert {type(number) for number in logged} == {int}


def test_a_trainers_step_is_checked_too():
    model, now, logged = net(), [torch.tensor(7.0)], tangential.monitor.sinks.memory()
    monitors = Monitors(1, logged, False, None)
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    monitors.attach(model, [optimizer], [2.0], monitors.sinks, lambda: now[0])
    for loss in losses(model, 1):
        loss.backward()
        optimizer.step()
    monitors.close()
    assert {(type(line["step"]), line["step"]) for line in logged} == {(int, 7)}
    with pytest.raises(ValueError, match=r"step must be an integer >= 0, got -1"):
        monitors.attach(model, [optimizer], [-1], monitors.sinks, lambda: 0)
