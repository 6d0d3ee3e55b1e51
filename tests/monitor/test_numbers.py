"""Every number of the monitor equals a plain computation on a twin that is not monitored."""

import copy
import math

import pytest
import torch
from monitored_nets import OPTIMIZERS, STEPS, losses, net, run
from torch import nn

from tangential import SGDP, AdamP, Monitor
from tangential.monitor.motion import steps_to_equilibrium


def rows_of(x, by_row):
    x = x.detach().double()
    return x.flatten(1) if by_row and x.dim() > 1 else x.reshape(1, -1)


def rms(x):
    return x.square().mean().sqrt().item()


def plain(w, g, after, *, keep, by_row):
    """The columns of a step, from the weight before and after it, its gradient, and `keep`."""
    w, g, after = (rows_of(x, by_row) for x in (w, g, after))
    e, fan = after - keep * w, w.shape[1]
    ww, unit = w.square().sum(), w / w.norm(dim=1)[:, None]
    unit_after = after / after.norm(dim=1)[:, None]
    seen = g.norm(dim=1) > 0  # ReLU may hold a channel at zero
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
    """Whether the published gate fires by row, and by weight."""
    if w.dim() < 2:
        return 0.0, 0.0

    def orthogonal(x, y):
        norms = x.norm(dim=1).clamp_min(1e-8) * y.norm(dim=1).clamp_min(1e-8)
        return abs((x * y).sum(1)) / norms < delta / x.shape[1] ** 0.5

    by_row = bool(orthogonal(rows_of(w, True), rows_of(g, True)).all())
    whole = bool(orthogonal(rows_of(w, False), rows_of(g, False)).all())
    return float(by_row), float(whole and not by_row)


def expected(name, options, w, g, after):
    """All columns except those on equilibrium, for an optimizer of OPTIMIZERS."""
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
    """For rounding: a difference is as exact as the numbers that are subtracted."""
    whole = {"cosine": 1.0, "radial_share": 1.0}
    whole |= dict.fromkeys(MOTION, wanted["update_norm"] / wanted["norm"])
    return exact * max(abs(wanted[column]), whole.get(column, 0.0))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.slow
def test_every_number_equals_that_of_a_plain_twin(name, dtype):
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
                assert torch.equal(p, watched.get_parameter(n))  # the monitor changes nothing
                wanted = expected(name, options, before[n], p.grad, p)
                for column, value in wanted.items():
                    found = logged[t].get(f"{n}/{column}", math.nan)  # undefined columns are absent
                    near = pytest.approx(value, abs=tolerance(column, wanted, exact), nan_ok=True)
                    assert found == near, (t, n, column)
                    seen += 1
    assert seen == STEPS * 8 * 13


# ---- equilibrium


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
def test_equilibrium_follows_from_optimizer_and_options(name):
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
@pytest.mark.slow
def test_weights_reach_equilibrium_in_the_predicted_number_of_steps(build, start):
    """Scale-invariant rows, driven by noise, that start far from equilibrium."""
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

    train(30)  # until the momentum has its final size
    said = logged[-1]["weight/steps_to_equilibrium"]
    assert 20 < said < 3000
    train(int(said))
    last = [values["weight/angle_rad"] for values in logged[-10:]]
    assert sum(last) / 10 == pytest.approx(logged[-1]["weight/equilibrium_rad"], rel=0.2)
    assert logged[-1]["weight/steps_to_equilibrium"] < said / 4


def test_a_weight_that_hardly_turns_is_infinitely_far_from_equilibrium():
    assert steps_to_equilibrium(1e-200, 1e-4, adaptive=True) == math.inf


# ---- means


def test_memory_share_is_that_of_scale_invariant_weights():
    values = run(OPTIMIZERS["AdamW"], 20, weights=True)[19]
    known = [f"{n}/growth_" for n in ("0.weight", "3.weight")]  # and not the classifier
    memory, step = (sum(values[n + part] for n in known) for part in ("memory", "step"))
    assert values["all/memory_share"] == pytest.approx(memory / (memory + step))


@pytest.mark.parametrize("count", range(1, 9))
def test_depths_are_nearly_equal_thirds_and_empty_ones_are_left_out(count):
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
