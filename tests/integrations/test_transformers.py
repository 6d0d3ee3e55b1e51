"""The monitor in Hugging Face's Trainer logs what it logs in a loop by hand."""

import pytest
import torch
from trainings import BATCH, EVERY, STEPS, Recorder, data, every_optimizer, finite, has_hooks
from transformers_runs import Integration, Net, hugging_face, monitored, net_by_hand, transformers

from tangential import AdamP, audit, param_groups
from tangential.integrations.transformers import TransformersMonitor, decay_groups

pytestmark = pytest.mark.slow


@every_optimizer
def test_the_trainer_logs_what_a_loop_by_hand_logs(name, tmp_path):
    recorded, integration = Recorder(), Integration()
    trainer = hugging_face(tmp_path, name, [integration])
    with TransformersMonitor(trainer, EVERY, recorded):
        trainer.train()
    assert recorded.exactly() == net_by_hand(name).exactly()
    assert recorded.steps == [0, 3, 6, 9]
    reported = [(s, {**v, "epoch": None}) for s, v in monitored(integration.recorded)]
    assert repr(reported) == repr([(s, {**v, "epoch": None}) for s, v in recorded])
    history = [(line["step"], line) for line in trainer.state.log_history]
    assert [step for step, _ in monitored(history)] == recorded.steps
    assert [step for step, line in history if "loss" in line] == list(range(1, STEPS + 1))
    assert recorded.closed
    assert not has_hooks(trainer.optimizer.optimizer)


def test_the_trainer_still_logs_what_was_asked_for(tmp_path):
    class Ask(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **_):
            control.should_log = True

    trainer = hugging_face(tmp_path, callbacks=[Ask()], logging_strategy="no")
    with TransformersMonitor(trainer, EVERY):
        trainer.train()
    losses = [line["step"] for line in trainer.state.log_history if "loss" in line]
    assert losses == list(range(1, STEPS + 1))


def test_logs_get_no_nan(tmp_path):
    trainer = hugging_face(tmp_path)
    plainly, steps = trainer.model.forward, []

    def diverges(x, labels):
        steps.append(len(steps))
        return {k: v * (torch.nan if steps[-1] == 3 else 1) for k, v in plainly(x, labels).items()}

    trainer.model.forward = diverges
    recorded = Recorder()
    with TransformersMonitor(trainer, EVERY, recorded):
        trainer.train()
    ours = [line for line in trainer.state.log_history if "all/frozen_norms" in line]
    assert len(ours) == 4
    assert all(map(finite, ours))
    assert not finite(recorded[2][1])


@every_optimizer
def test_steps_are_counted_not_batches(name, tmp_path):
    recorded = Recorder()
    trainer = hugging_face(tmp_path, name, gradient_accumulation_steps=2)
    with TransformersMonitor(trainer, EVERY, recorded):
        trainer.train()
    assert recorded.exactly() == net_by_hand(name, accumulate=2, epochs=2).exactly()


def test_resumed_is_uninterrupted(tmp_path):
    whole, parts = Recorder(), Recorder()
    for recorded, folder in [(whole, tmp_path / "whole"), (parts, tmp_path / "parts")]:
        trainer = hugging_face(folder, save_strategy="steps", save_steps=4)
        trainer.add_callback(TransformersMonitor(trainer, EVERY, recorded))
        trainer.train()
    parts[:] = [(step, values) for step, values in parts if step < 4]
    trainer = hugging_face(tmp_path / "parts")
    trainer.add_callback(TransformersMonitor(trainer, EVERY, parts))
    trainer.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-4"))
    assert parts.exactly() == whole.exactly()


def test_a_bfloat16_run_is_logged(tmp_path):
    recorded = Recorder()
    trainer = hugging_face(tmp_path, bf16=True)
    with TransformersMonitor(trainer, EVERY, recorded):
        trainer.train()
    assert recorded.steps == [0, 3, 6, 9]


def test_nothing_is_left_after_an_exception(tmp_path):
    recorded = Recorder()
    trainer = hugging_face(tmp_path, fails_at=5 * BATCH)  # Accelerate loads a batch one step early
    with (
        pytest.raises(ArithmeticError, match="at an end"),
        TransformersMonitor(trainer, EVERY, recorded) as monitor,
    ):
        trainer.train()
    assert recorded.steps == [0, 3]
    assert recorded.closed
    assert not has_hooks(trainer.optimizer.optimizer)
    assert monitor not in trainer.callback_handler.callbacks


def test_the_monitor_is_attached_once_when_a_trainer_trains_again(tmp_path):
    recorded = Recorder()
    trainer = hugging_face(tmp_path, fails_at=5 * BATCH)
    trainer.add_callback(TransformersMonitor(trainer, EVERY, recorded))
    with pytest.raises(ArithmeticError):
        trainer.train()
    trainer.train_dataset.fails_at = None
    trainer.train()
    assert recorded.steps == [0, 3, 0, 3, 6, 9]


def trainers_decays(model, folder):
    arguments = transformers.TrainingArguments(folder, weight_decay=0.1, use_cpu=True)
    trainer = transformers.Trainer(
        model, arguments, optimizer_cls_and_kwargs=(AdamP, {"lr": 0.01, "delta": 0.2})
    )
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is AdamP
    assert optimizer.defaults["delta"] == 0.2
    return decays(optimizer.param_groups)


def decays(groups):
    """The decay of every weight, by identity."""
    return {id(p): group["weight_decay"] for group in groups for p in group["params"]}


def test_decay_groups_are_those_of_the_trainer(tmp_path):
    model = Net()
    model.net[3].weight.requires_grad_(False)
    expected = trainers_decays(model, tmp_path)
    groups = decay_groups(model, 0.1)
    assert decays(groups) == expected
    assert len(groups) == 2
    assert id(model.net[3].weight) not in expected


def test_decay_groups_keep_the_units_of_an_audit(tmp_path):
    model, (x, labels) = Net(), data()
    result = audit(model, [{"x": x, "labels": labels}])
    groups = decay_groups(model, 0.1, result)
    assert decays(groups) == trainers_decays(model, tmp_path)
    units = lambda groups: {id(p): group["projection"] for group in groups for p in group["params"]}
    assert units(groups) == units(param_groups(model, result))
    AdamP(groups)
