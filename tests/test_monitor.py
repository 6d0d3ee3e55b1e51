"""Every number of the monitor against a plain re-computation on a twin that nobody watches."""

import copy
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from tangential import SGDP, AdamP, Monitor, audit
from tangential.backends import native
from tangential.monitoring.monitor import UNITS
from tangential.monitoring.motion import steps_to_equilibrium

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
                    found = logged[t][f"{n}/{column}"]
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
    target, steps = (values[f"3.weight/{n}"] for n in ("equilibrium_rad", "steps_to_equilibrium"))
    assert target == pytest.approx(EQUILIBRIA[name], nan_ok=True)
    assert math.isnan(steps) == math.isnan(EQUILIBRIA[name])


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
    assert math.isnan(values["3.weight/angle_rad"])
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
    assert counts[1] == counts[3] == counts[5] == counts[7]


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
    assert UNITS["row_axis"] == 0
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
