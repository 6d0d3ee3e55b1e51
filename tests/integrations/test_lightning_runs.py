"""The monitor in Lightning: several optimizers, resumed and failed runs."""

import pytest
import torch
from lightning_runs import L, Module, Players, fit, logged, quiet, steps_of, trainer_of
from torch import nn
from torch.nn.functional import cross_entropy
from trainings import EVERY, OPTIMIZERS, STEPS, Recorder, batches, every_optimizer, has_hooks

from tangential.integrations.lightning import LightningMonitor

pytestmark = [pytest.mark.slow, *quiet]


def test_every_optimizer_has_a_label_and_its_own_count(tmp_path):
    recorded = Recorder()
    trainer = fit(tmp_path, Players(), LightningMonitor(EVERY, recorded))
    first, second = steps_of("AdamP", recorded), steps_of("AdamP-1", recorded)
    assert first == [3 * own for own in range(0, STEPS, EVERY)]
    assert second == [3 * (own // 2) + own % 2 + 1 for own in range(0, 2 * STEPS, EVERY)]
    assert recorded.steps == sorted(recorded.steps)
    assert [step for step, _ in logged(tmp_path, "AdamP-1/all/norm")] == second
    assert not any(has_hooks(optimizer) for optimizer in trainer.optimizers)


class WithProxies(Players):
    """Its first optimizer has weights of a loss, which the module does not have."""

    def configure_optimizers(self):
        self.proxies = [nn.Parameter(torch.ones(3, 8))]
        second = OPTIMIZERS["AdamP"](self.second.parameters())
        return [OPTIMIZERS["AdamP"](self.proxies), second]

    def training_step(self, batch, number):
        x, y = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        loss = cross_entropy(self.second(x), y) + self.proxies[0].square().sum()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()


def test_an_optimizer_without_weights_of_the_module_is_left_out(tmp_path):
    recorded = Recorder()
    monitor = LightningMonitor(EVERY, recorded)
    trainer = fit(tmp_path, WithProxies(), monitor)
    assert steps_of("AdamP-1", recorded) == [2 * step + 1 for step in range(0, STEPS, EVERY)]
    assert not steps_of("AdamP", recorded)
    assert monitor.monitors.steps_before == [0, STEPS]
    assert not any(has_hooks(optimizer) for optimizer in trainer.optimizers)


class Save(L.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("make", [Module, Players])
def test_resumed_is_uninterrupted(make, tmp_path):
    whole, parts, saved = Recorder(), Recorder(), tmp_path / "middle.ckpt"
    fit(tmp_path / "whole", make(), LightningMonitor(EVERY, whole), max_epochs=2)
    fit(tmp_path / "begin", make(), LightningMonitor(EVERY, parts), Save(saved))
    monitor = LightningMonitor(EVERY, parts)
    fit(tmp_path / "end", make(), monitor, ckpt_path=saved, max_epochs=2)
    assert max(whole.steps) > STEPS
    assert parts.exactly() == whole.exactly()


def test_a_run_without_a_monitor_or_with_another_can_resume(tmp_path):
    saved, recorded = tmp_path / "middle.ckpt", Recorder()
    monitor = LightningMonitor(EVERY, recorded)
    fit(tmp_path / "other", Module(), monitor)
    fit(tmp_path / "begin", Module(), Save(saved))
    recorded.clear()
    fit(tmp_path / "end", Module(), monitor, ckpt_path=saved, max_epochs=2)
    assert recorded.steps == [12, 15, 18]
    recorded.clear()
    fit(tmp_path / "anew", Module(), monitor)
    assert recorded.steps == [0, 3, 6, 9]


def test_counts_continue_where_the_same_trainer_fits_again(tmp_path):
    often, seldom = Recorder(), Recorder()
    monitors = [LightningMonitor(3, often), LightningMonitor(6, seldom)]
    trainer = fit(tmp_path, model := Players(), *monitors)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, batches())
    assert steps_of("AdamP", often) == [3 * own for own in range(0, 2 * STEPS, 3)]
    for label in ("AdamP", "AdamP-1"):
        assert steps_of(label, seldom) == steps_of(label, often)[::2]


@every_optimizer
@pytest.mark.parametrize("fails_at", [3, 4])  # a step that is logged, and one that is not
def test_nothing_is_left_after_an_exception(name, fails_at, tmp_path):
    recorded = Recorder()
    trainer = trainer_of(tmp_path, LightningMonitor(EVERY, recorded))
    with pytest.raises(ArithmeticError, match="at an end"):
        trainer.fit(model := Module(name, fails_at), batches())
    optimizer = model.optimizers().optimizer
    assert not has_hooks(optimizer)
    assert recorded.closed
    assert recorded.steps == [0, 3][: fails_at - 2]
