"""The monitor around a step: models and optimizers that change, errors, what it keeps alive."""

import gc
import weakref

import pytest
import torch
from monitored_nets import EVERY_KIND, OPTIMIZERS, fail_a_step, losses, net, run, train
from torch import nn

from tangential import AdamP, Monitor


def test_every_and_step_decide_which_steps_are_logged():
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


def test_a_closed_monitor_lets_the_optimizer_go():
    model = net()
    optimizer, logged = OPTIMIZERS["AdamP"](model.parameters()), []
    Monitor(model, optimizer, 1, lambda v, s: logged.append(v)).close()
    for loss in losses(model, 1):
        loss.backward()
        optimizer.step()
    assert not logged
    assert not optimizer._optimizer_step_pre_hooks


def test_frozen_normalisation_is_named():
    model = net()
    model[4].eval()
    values = run(OPTIMIZERS["SGD"], 1, model=model, weights=True)[0]
    assert (values["all/frozen_norms"], values["4/frozen"]) == (1.0, 1.0)


@EVERY_KIND
@pytest.mark.slow
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
    optimizer.step()  # in this step the kernel forgets the group
    gc.collect()
    assert gone() is None


# ---- models and optimizers that change


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
def test_weights_added_to_the_optimizer_later_are_logged_from_then_on(make):
    model, logged = net(), []
    optimizer = make([model[0].weight])
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        train(model, optimizer, 1)
        optimizer.add_param_group({"params": [*model[3:].parameters()]})
        train(model, optimizer, 1)
        model[7] = nn.Linear(24, 10).double()
        optimizer.add_param_group({"params": [*model[7].parameters()]})  # the old ones stay
        train(model, optimizer, 1)
    names = [{key.rpartition("/")[0] for key in values if "norm" in key} for values in logged]
    groups = {"all", "early"}, {"all", "early", "middle", "late"}
    rest = {"3.weight", "4.weight", "4.bias", "7.weight", "7.bias"}
    assert names[0] == {"0.weight", *groups[0]}
    assert names[1] == names[2] == {"0.weight", *rest, *groups[1]}


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_units_of_another_optimizers_groups_are_measured_as_ours_are(make):
    """Under AdamP and under any other optimizer, an angle is that of the same vector."""

    def angle(**options):
        torch.manual_seed(0)
        model, logged = nn.Linear(6, 8, bias=False).double(), []
        optimizer = make([{"params": [*model.parameters()], **options}], lr=0.1)
        with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
            before = model.weight.detach().clone()
            model(torch.randn(4, 6).double()).square().sum().backward()
            optimizer.step()
        return logged[0]["weight/angle_rad"], before, model.weight.detach()

    def by_hand(before, after, units):
        a, b = (x.reshape(units, -1) for x in (before, after))
        return torch.cosine_similarity(a, b).acos().square().mean().sqrt().item()

    for options, units in (({}, 8), ({"row_groups": 4}, 2), ({"projection": "weight"}, 1)):
        measured, before, after = angle(**options)
        assert measured == pytest.approx(by_hand(before, after, units))
    turned, before, after = angle(row_axis=1)
    assert turned == pytest.approx(by_hand(before.T, after.T, 6))
    for other in ({"row_groups": 3}, {"row_groups": "all"}, {"row_axis": 7}):
        assert angle(**other)[0] == angle()[0]


def test_a_lazy_module_that_is_never_used_is_left_out():
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "spare": nn.LazyLinear(2)})
    optimizer, logged = torch.optim.SGD(model.parameters(), lr=0.1), []
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        model["used"](torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    assert logged[0]["used.weight/norm"] > 0
    assert "spare.weight/norm" not in logged[0]


def test_an_unknown_lr_is_left_out():
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
def test_a_step_that_calls_its_base_class_counts_once(base):
    base(net().parameters(), lr=1e-2)  # torch has now wrapped the base's step with hooks

    class Own(base):
        def step(self, closure=None):
            return super().step(closure)

    ours, plain_run = run(lambda p: Own(p, lr=1e-2), 3), run(lambda p: base(p, lr=1e-2), 3)
    assert [*ours] == [0, 1, 2]
    for step, values in ours.items():
        for name in ("norm", "angle_rad", "effective_step"):
            assert values[f"all/{name}"] == pytest.approx(plain_run[step][f"all/{name}"])


@pytest.mark.slow
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


# ---- errors


def test_after_an_error_in_a_step_the_optimizer_has_no_watcher():
    model = net()
    optimizer, logged = OPTIMIZERS["AdamP"](model.parameters()), []
    monitor = Monitor(model, optimizer, 1, lambda v, s: logged.append(s))
    for t, loss in enumerate(losses(model, 2)):
        loss.backward()
        if t == 0:
            fail_a_step(optimizer)
        optimizer.step()
    monitor.close()
    assert logged == [0, 1]
    assert optimizer.watch is None


def test_a_sink_that_raises_costs_neither_step_nor_number():
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


def test_every_sink_is_closed_even_if_one_raises():
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
