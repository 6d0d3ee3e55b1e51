"""The monitor in Lightning's Trainer logs what it logs in a loop by hand."""

import importlib

import pytest
import torch
from lightning_runs import L, Module, Task, fit, logged, quiet
from torch import nn
from torch.nn.functional import cross_entropy
from trainings import (
    EVERY,
    STEPS,
    Recorder,
    batches,
    by_hand,
    every_optimizer,
    finite,
    has_hooks,
    layers,
)

from tangential import Monitor, audit
from tangential.integrations import lightning as integration
from tangential.integrations.lightning import LightningMonitor

pytestmark = [pytest.mark.slow, *quiet]


@every_optimizer
def test_the_trainer_logs_what_a_loop_by_hand_logs(name, tmp_path):
    recorded, model, twin = Recorder(), Module(name), Module(name)
    trainer = fit(tmp_path, model, LightningMonitor(EVERY, recorded))
    assert recorded.exactly() == by_hand(twin, twin.loss).exactly()
    assert recorded.steps == [0, 3, 6, 9]
    assert recorded[1][1]["all/grad_norm"] > 0  # gradients are still there after the closure
    assert logged(tmp_path, "all/angle_rad") == [(s, v["all/angle_rad"]) for s, v in recorded]
    assert [step for step, _ in logged(tmp_path, "loss")] == list(range(STEPS))
    assert recorded.closed
    assert not has_hooks(trainer.optimizers[0])


def test_weights_are_logged_on_request(tmp_path):
    recorded, all_told = Recorder(), Recorder()
    recorded.weights = False
    fit(tmp_path, Module(), LightningMonitor(EVERY, [recorded, all_told], weights=True))
    assert "net.0.weight/norm" in all_told[0][1]
    assert logged(tmp_path, "net.0.weight/norm")
    assert "net.0.weight/norm" not in recorded[0][1]


def test_an_audit_adds_invariance_to_the_log(tmp_path):
    recorded, model = Recorder(), Module()
    audited = audit(model, [*batches()], loss=lambda module, batch: module.loss(batch))
    fit(tmp_path, model, LightningMonitor(EVERY, recorded, weights=True, audit=audited))
    recorded = recorded[0][1]
    assert (recorded["net.0.weight/invariant"], recorded["net.3.weight/invariant"]) == (1, 0)


@every_optimizer
def test_steps_are_counted_not_batches(name, tmp_path):
    recorded, model, twin = Recorder(), Module(name), Module(name)
    fit(
        tmp_path,
        model,
        LightningMonitor(EVERY, recorded),
        accumulate_grad_batches=2,
        max_epochs=2,
    )
    assert recorded.exactly() == by_hand(twin, twin.loss, accumulate=2, epochs=2).exactly()
    assert recorded.steps == [0, 3, 6, 9]


@every_optimizer
def test_steps_that_a_scaler_skips_are_not_logged(name, tmp_path):
    def half_loss(batch):
        with torch.autocast("cpu", torch.float16):
            return twin.loss(batch)

    recorded, model, twin = Recorder(), Module(name), Module(name)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**20) for _ in range(2)]
    plugin = L.plugins.MixedPrecision("16-mixed", "cpu", scalers[0])
    monitor = LightningMonitor(EVERY, recorded)
    fit(tmp_path, model, monitor, plugins=[plugin])
    expected = by_hand(twin, half_loss, scaler=scalers[1])
    assert recorded.exactly() == expected.exactly()
    assert scalers[0].get_scale() < 2**20  # some steps were skipped
    assert recorded.steps[0] > 0


def test_pytorch_lightning_works_like_lightning(tmp_path):
    other = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")
    recorded, twin = Recorder(), Module()

    class OtherModule(Task, other.LightningModule):
        pass

    monitor = importlib.reload(integration).LightningMonitor(EVERY, recorded)
    fit(tmp_path, OtherModule(), monitor, package=other)
    assert recorded.exactly() == by_hand(twin, twin.loss).exactly()


class Diverges(Module):
    def loss(self, batch):
        steps = getattr(self, "steps", 0)
        self.steps = steps + 1
        return super().loss(batch) * (torch.nan if steps == 3 else 1)


def test_loggers_get_no_nan(tmp_path):
    every = []

    class Logger(L.loggers.CSVLogger):
        def log_metrics(self, metrics, step=None):
            every.append(metrics)
            super().log_metrics(metrics, step)

    recorded, model = Recorder(), Diverges()
    monitor = LightningMonitor(EVERY, recorded, weights=True)
    fit(tmp_path, model, monitor, logger=Logger(tmp_path, version="0"))
    ours = [values for values in every if "loss" not in values]
    assert len(ours) == 4
    assert all(map(finite, ours))
    assert finite(recorded[0][1])
    assert not finite(recorded[2][1])  # after the loss was NaN; the user's own sink receives it
    assert "late/norm" not in ours[0]  # of two matrices


def test_another_monitor_may_watch_the_same_optimizer(tmp_path):
    recorded, other, twin = Recorder(), Recorder(), Module()

    class Also(L.Callback):
        def on_train_start(self, trainer, pl_module):
            self.monitor = Monitor(pl_module, trainer.optimizers[0], 2, other)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, number):
            if number == 5:
                self.monitor.close()

    fit(tmp_path, Module(), LightningMonitor(EVERY, recorded), Also())
    assert recorded.exactly() == by_hand(twin, twin.loss).exactly()
    assert other.steps == [0, 2, 4]
    assert other[0][1] == recorded[0][1]


class Wrapped(Module):
    """Has a net from elsewhere, and a loss with its own weights."""

    def __init__(self, net):
        super().__init__()
        self.net, self.scale = net, nn.Parameter(torch.ones(3, 3))

    def loss(self, batch):
        x, y = batch
        return cross_entropy(self.net(x) @ self.scale, y)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_audit_may_be_of_the_net_inside(compiled, tmp_path):
    recorded, net = Recorder(), nn.Sequential(*layers())
    audited = audit(net, [x for x, _ in batches()])
    net = torch.compile(net, backend="eager") if compiled else net
    monitor = LightningMonitor(EVERY, recorded, weights=True, audit=audited)
    fit(tmp_path, Wrapped(net), monitor)
    known = {k: v for k, v in recorded[0][1].items() if k.endswith("/invariant")}
    assert known["net.0.weight/invariant"] == 1
    assert known["net.3.weight/invariant"] == 0
    assert "scale/invariant" not in known
    assert recorded[0][1]["scale/norm"] > 0
