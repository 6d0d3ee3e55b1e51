"""The monitor in real runs of Lightning's and Hugging Face's trainers, against loops by hand."""

import csv
import json
import math
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from together import together
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tangential import AdamP, Monitor, audit
from tangential.integrations import callbacks

L = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

pytestmark = [
    # Lightning advises to load data in processes of their own, which eight rows do not need.
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    # Lightning asks torch's trees what torch has since deprecated.
    pytest.mark.filterwarnings(
        "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"
    ),
    # Lightning's logger, seeing a folder of its own from the run that is resumed.
    pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty"),
]

OPTIMIZERS = {
    "AdamP": partial(AdamP, lr=0.01, weight_decay=0.1),
    "SGD": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
ROWS, BATCH, EVERY = 80, 8, 3
STEPS = ROWS // BATCH


@pytest.fixture(autouse=True)
def one_thread():
    """Small nets run no faster on several, and slower where others work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def batches(batch=BATCH):
    return DataLoader(TensorDataset(*data()), batch)


def layers():
    torch.manual_seed(2)
    return [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)]


class Told(list):
    """A sink that keeps what it is told, and says whether it was closed."""

    closed = False

    def __call__(self, values, step):
        self.append((step, values))

    def close(self):
        self.closed = True

    @property
    def steps(self):
        return [step for step, _ in self]

    def exactly(self):
        """Every bit, NaN included."""
        return repr(list(self))


def has_hooks(optimizer):
    hooks = [*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks]
    return bool(hooks) or getattr(optimizer, "watch", None) is not None


def by_hand(model, loss_of, accumulate=1, scaler=None, epochs=1, batch=BATCH):
    """What a monitor tells in a loop that someone has written."""
    told, scaler = Told(), scaler or torch.amp.GradScaler("cpu", enabled=False)
    optimizer = model.configure_optimizers()
    with Monitor(model, optimizer, EVERY, lambda values, _: told(values, step)):
        for number, rows in enumerate([*batches(batch)] * epochs):
            scaler.scale(loss_of(rows) / accumulate).backward()
            step, part = divmod(number, accumulate)
            if part == accumulate - 1:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    return told


# ---- Lightning


class Task:
    """A net, an optimizer, and a batch at which the data fail."""

    def __init__(self, name="AdamP", fails_at=None):
        super().__init__()
        self.net = nn.Sequential(*layers())
        self.make, self.fails_at = OPTIMIZERS[name], fails_at

    def loss(self, batch):
        x, y = batch
        return cross_entropy(self.net(x), y)

    def training_step(self, batch, number):
        if number == self.fails_at:
            raise ArithmeticError("the data are at an end")
        loss = self.loss(batch)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return self.make(self.parameters())


class Module(Task, L.LightningModule):
    pass


class Players(L.LightningModule):
    """Two nets in turn: the second takes two steps for each of the first."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = (nn.Sequential(*layers()) for _ in range(2))

    def training_step(self, batch, number):
        x, y = batch
        first, second = self.optimizers()
        for optimizer, net in [(first, self.first), (second, self.second), (second, self.second)]:
            optimizer.zero_grad()
            self.manual_backward(cross_entropy(net(x), y))
            optimizer.step()

    def configure_optimizers(self):
        return [OPTIMIZERS["AdamP"](net.parameters()) for net in (self.first, self.second)]


def trainer_of(folder, *monitors, package=L, **options):
    usual = {
        "accelerator": "cpu",
        "callbacks": list(monitors),
        "default_root_dir": folder,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
        "logger": package.loggers.CSVLogger(folder, version="0"),
        "max_epochs": 1,
    }
    return package.Trainer(**(usual | options))


def fit(folder, model, *monitors, ckpt_path=None, batch=BATCH, **options):
    trainer = trainer_of(folder, *monitors, **options)
    trainer.fit(model, batches(batch), ckpt_path=ckpt_path)
    return trainer


def logged(folder, column):
    """Steps and values of a column in Lightning's CSV file."""
    with open(folder / "lightning_logs" / "0" / "metrics.csv") as file:
        return [(int(r["step"]), float(r[column])) for r in csv.DictReader(file) if r[column]]


@every_optimizer
def test_lightning_tells_what_a_loop_by_hand_does(name, tmp_path):
    told, model, twin = Told(), Module(name), Module(name)
    trainer = fit(tmp_path, model, callbacks.LightningMonitor(EVERY, told))
    assert told.exactly() == by_hand(twin, twin.loss).exactly()
    assert told.steps == [0, 3, 6, 9]
    assert told[1][1]["all/grad_norm"] > 0  # of the gradients that the closure has left
    assert logged(tmp_path, "all/angle_rad") == [(s, v["all/angle_rad"]) for s, v in told]
    assert [step for step, _ in logged(tmp_path, "loss")] == list(range(STEPS))
    assert told.closed
    assert not has_hooks(trainer.optimizers[0])


def test_lightning_weights_are_told_where_asked_for(tmp_path):
    told, all_told = Told(), Told()
    told.weights = False
    fit(tmp_path, Module(), callbacks.LightningMonitor(EVERY, [told, all_told], weights=True))
    assert "net.0.weight/norm" in all_told[0][1]
    assert logged(tmp_path, "net.0.weight/norm")
    assert "net.0.weight/norm" not in told[0][1]


def test_lightning_weights_are_told_what_an_audit_says(tmp_path):
    told, model = Told(), Module()
    audited = audit(model, [*batches()], loss=lambda module, batch: module.loss(batch))
    fit(tmp_path, model, callbacks.LightningMonitor(EVERY, told, weights=True, audit=audited))
    told = told[0][1]
    assert (told["net.0.weight/invariant"], told["net.3.weight/invariant"]) == (1, 0)


@every_optimizer
def test_lightning_counts_steps_not_batches(name, tmp_path):
    told, model, twin = Told(), Module(name), Module(name)
    fit(
        tmp_path,
        model,
        callbacks.LightningMonitor(EVERY, told),
        accumulate_grad_batches=2,
        max_epochs=2,
    )
    assert told.exactly() == by_hand(twin, twin.loss, accumulate=2, epochs=2).exactly()
    assert told.steps == [0, 3, 6, 9]


@every_optimizer
def test_lightning_with_a_scaler_that_skips_steps(name, tmp_path):
    def half_loss(batch):
        with torch.autocast("cpu", torch.float16):
            return twin.loss(batch)

    told, model, twin = Told(), Module(name), Module(name)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**20) for _ in range(2)]
    plugin = L.plugins.MixedPrecision("16-mixed", "cpu", scalers[0])
    monitor = callbacks.LightningMonitor(EVERY, told)
    fit(tmp_path, model, monitor, plugins=[plugin])
    expected = by_hand(twin, half_loss, scaler=scalers[1])
    assert told.exactly() == expected.exactly()
    assert scalers[0].get_scale() < 2**20  # some steps were none
    assert told.steps[0] > 0


def of(label, told):
    """The steps at which an optimizer is told of."""
    return [step for step, values in told if f"{label}/all/norm" in values]


def test_lightning_labels_every_optimizer_and_counts_its_own_steps(tmp_path):
    told = Told()
    trainer = fit(tmp_path, Players(), callbacks.LightningMonitor(EVERY, told))
    first, second = of("AdamP", told), of("AdamP-1", told)
    assert first == [3 * own for own in range(0, STEPS, EVERY)]
    assert second == [3 * (own // 2) + own % 2 + 1 for own in range(0, 2 * STEPS, EVERY)]
    assert told.steps == sorted(told.steps)
    assert [step for step, _ in logged(tmp_path, "AdamP-1/all/norm")] == second
    assert not any(has_hooks(optimizer) for optimizer in trainer.optimizers)


class WithProxies(Players):
    """Whose first optimizer has a loss's weights, which are not the module's."""

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


def test_lightning_leaves_out_an_optimizer_without_weights_of_the_module(tmp_path):
    told = Told()
    monitor = callbacks.LightningMonitor(EVERY, told)
    trainer = fit(tmp_path, WithProxies(), monitor)
    assert of("AdamP-1", told) == [2 * step + 1 for step in range(0, STEPS, EVERY)]
    assert not of("AdamP", told)
    assert monitor.monitors.before == [0, STEPS]
    assert not any(has_hooks(optimizer) for optimizer in trainer.optimizers)


class Save(L.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("make", [Module, Players])
def test_lightning_resumed_is_uninterrupted(make, tmp_path):
    whole, parts, saved = Told(), Told(), tmp_path / "middle.ckpt"
    fit(tmp_path / "whole", make(), callbacks.LightningMonitor(EVERY, whole), max_epochs=2)
    fit(tmp_path / "begin", make(), callbacks.LightningMonitor(EVERY, parts), Save(saved))
    monitor = callbacks.LightningMonitor(EVERY, parts)
    fit(tmp_path / "end", make(), monitor, ckpt_path=saved, max_epochs=2)
    assert max(whole.steps) > STEPS
    assert parts.exactly() == whole.exactly()


def test_lightning_resumes_a_run_that_had_no_monitor_or_another(tmp_path):
    saved, told = tmp_path / "middle.ckpt", Told()
    monitor = callbacks.LightningMonitor(EVERY, told)
    fit(tmp_path / "other", Module(), monitor)
    fit(tmp_path / "begin", Module(), Save(saved))
    told.clear()
    fit(tmp_path / "end", Module(), monitor, ckpt_path=saved, max_epochs=2)
    assert told.steps == [12, 15, 18]
    told.clear()
    fit(tmp_path / "anew", Module(), monitor)
    assert told.steps == [0, 3, 6, 9]


def test_lightning_goes_on_where_the_same_trainer_fits_again(tmp_path):
    often, seldom = Told(), Told()
    monitors = [callbacks.LightningMonitor(3, often), callbacks.LightningMonitor(6, seldom)]
    trainer = fit(tmp_path, model := Players(), *monitors)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, batches())
    assert of("AdamP", often) == [3 * own for own in range(0, 2 * STEPS, 3)]
    for label in ("AdamP", "AdamP-1"):
        assert of(label, seldom) == of(label, often)[::2]


@every_optimizer
@pytest.mark.parametrize("fails_at", [3, 4])  # a step that is logged, and one that is not
def test_lightning_leaves_nothing_after_an_exception(name, fails_at, tmp_path):
    told = Told()
    trainer = trainer_of(tmp_path, callbacks.LightningMonitor(EVERY, told))
    with pytest.raises(ArithmeticError, match="at an end"):
        trainer.fit(model := Module(name, fails_at), batches())
    optimizer = model.optimizers().optimizer
    assert not has_hooks(optimizer)
    assert told.closed
    assert told.steps == [0, 3][: fails_at - 2]


def test_lightning_under_its_other_name(tmp_path):
    other = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")
    told, twin = Told(), Module()

    class OtherModule(Task, other.LightningModule):
        pass

    monitor = callbacks.LightningMonitor(EVERY, told)
    fit(tmp_path, OtherModule(), monitor, package=other)
    assert told.exactly() == by_hand(twin, twin.loss).exactly()


class Process:
    """A sink that writes to a file which process is told of which step."""

    def __init__(self, path):
        self.path = path

    def __call__(self, values, step):
        with open(self.path, "a") as file:
            file.write(json.dumps([os.getpid(), step, values["all/grad_norm"]]) + "\n")


class Half(Module):
    """Takes every second row, in the second process the others."""

    def loss(self, batch, first=None):
        first = self.global_rank if first is None else first
        return super().loss([part[first::2] for part in batch])


TWO_PROCESSES = """
from pathlib import Path
from tangential.integrations.callbacks import LightningMonitor
from test_callbacks import BATCH, EVERY, Half, Process, fit
folder = Path(sys.argv[1])
two = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
monitor = LightningMonitor(EVERY, Process(folder / "told"))
fit(folder, Half(), monitor, batch=2 * BATCH, **two)
"""


def test_lightning_in_two_processes_tells_once(tmp_path):
    together(TWO_PROCESSES, tmp_path)
    told, twin = tmp_path / "told", Half()
    pids, steps, norms = zip(*map(json.loads, told.read_text().splitlines()), strict=True)
    assert len(set(pids)) == 1
    assert steps == (0, 3)
    assert [step for step, _ in logged(tmp_path, "all/norm")] == [0, 3]
    mean = by_hand(twin, lambda x: (twin.loss(x, 0) + twin.loss(x, 1)) / 2, batch=2 * BATCH)
    assert norms == pytest.approx([values["all/grad_norm"] for _, values in mean], rel=1e-5)


class Diverges(Module):
    def loss(self, batch):
        steps = getattr(self, "steps", 0)
        self.steps = steps + 1
        return super().loss(batch) * (torch.nan if steps == 3 else 1)


def finite(values):
    return all(math.isfinite(value) for value in values.values())


def test_lightning_loggers_get_no_nan(tmp_path):
    every = []

    class Logger(L.loggers.CSVLogger):
        def log_metrics(self, metrics, step=None):
            every.append(metrics)
            super().log_metrics(metrics, step)

    told, model = Told(), Diverges()
    monitor = callbacks.LightningMonitor(EVERY, told, weights=True)
    fit(tmp_path, model, monitor, logger=Logger(tmp_path, version="0"))
    ours = [values for values in every if "loss" not in values]
    assert len(ours) == 4
    assert all(map(finite, ours))
    assert finite(told[0][1])
    assert not finite(told[2][1])  # after the loss was NaN: a sink of one's own is told
    assert "late/norm" not in ours[0]  # of two matrices


def test_lightning_watches_what_another_monitor_watches(tmp_path):
    told, other, twin = Told(), Told(), Module()

    class Also(L.Callback):
        def on_train_start(self, trainer, pl_module):
            self.monitor = Monitor(pl_module, trainer.optimizers[0], 2, other)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, number):
            if number == 5:
                self.monitor.close()

    fit(tmp_path, Module(), callbacks.LightningMonitor(EVERY, told), Also())
    assert told.exactly() == by_hand(twin, twin.loss).exactly()
    assert other.steps == [0, 2, 4]
    assert other[0][1] == told[0][1]


class Wrapped(Module):
    """Takes its net from elsewhere, and a loss with weights of its own."""

    def __init__(self, net):
        super().__init__()
        self.net, self.scale = net, nn.Parameter(torch.ones(3, 3))

    def loss(self, batch):
        x, y = batch
        return cross_entropy(self.net(x) @ self.scale, y)


@pytest.mark.parametrize("compiled", [False, True])
def test_lightning_takes_an_audit_of_the_net_inside(compiled, tmp_path):
    told, net = Told(), nn.Sequential(*layers())
    audited = audit(net, [x for x, _ in batches()])
    net = torch.compile(net, backend="eager") if compiled else net
    monitor = callbacks.LightningMonitor(EVERY, told, weights=True, audit=audited)
    fit(tmp_path, Wrapped(net), monitor)
    known = {k: v for k, v in told[0][1].items() if k.endswith("/invariant")}
    assert known["net.0.weight/invariant"] == 1
    assert known["net.3.weight/invariant"] == 0
    assert "scale/invariant" not in known
    assert told[0][1]["scale/norm"] > 0


# ---- Hugging Face


class Net(nn.Module):
    """As the Trainer takes it: labels in, loss out."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(*layers())

    def forward(self, x, labels):
        return {"loss": cross_entropy(self.net(x), labels)}


class Rows(torch.utils.data.Dataset):
    def __init__(self, fails_at=None):
        self.x, self.labels = data()
        self.fails_at = fails_at

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        if i == self.fails_at:
            raise ArithmeticError("the data are at an end")
        return {"x": self.x[i], "labels": self.labels[i]}


class Integration(transformers.TrainerCallback):
    """What a Trainer reports to."""

    def __init__(self):
        self.told = []

    def on_log(self, args, state, control, logs=None, **_):
        self.told.append((state.global_step, dict(logs)))


def hugging_face(folder, name="AdamP", callbacks=(), fails_at=None, **options):
    usual = {
        "disable_tqdm": True,
        "logging_steps": 1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "max_steps": STEPS,
        "output_dir": folder,
        "per_device_train_batch_size": BATCH,
        "report_to": "none",
        "save_strategy": "no",
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
    }
    model = Net()
    return transformers.Trainer(
        model,
        transformers.TrainingArguments(**(usual | options)),
        train_dataset=Rows(fails_at),
        callbacks=list(callbacks),
        optimizers=(OPTIMIZERS[name](model.parameters()), None),
    )


def net_by_hand(name, **options):
    net = Net()
    net.configure_optimizers = lambda: OPTIMIZERS[name](net.parameters())
    return by_hand(net, lambda batch: net(*batch)["loss"], **options)


def of_monitor(told):
    """What of a Trainer's logs a monitor has told."""
    return [(step, values) for step, values in told if "all/norm" in values]


@every_optimizer
def test_transformers_tells_what_a_loop_by_hand_does(name, tmp_path):
    told, integration = Told(), Integration()
    trainer = hugging_face(tmp_path, name, [integration])
    with callbacks.TransformersMonitor(trainer, EVERY, told):
        trainer.train()
    assert told.exactly() == net_by_hand(name).exactly()
    assert told.steps == [0, 3, 6, 9]
    reported = [(s, {**v, "epoch": None}) for s, v in of_monitor(integration.told)]
    assert repr(reported) == repr([(s, {**v, "epoch": None}) for s, v in told])
    history = [(line["step"], line) for line in trainer.state.log_history]
    assert [step for step, _ in of_monitor(history)] == told.steps
    assert [step for step, line in history if "loss" in line] == list(range(1, STEPS + 1))
    assert told.closed
    assert not has_hooks(trainer.optimizer.optimizer)


def test_transformers_still_logs_what_was_asked_for_meanwhile(tmp_path):
    class Ask(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **_):
            control.should_log = True

    trainer = hugging_face(tmp_path, callbacks=[Ask()], logging_strategy="no")
    with callbacks.TransformersMonitor(trainer, EVERY):
        trainer.train()
    losses = [line["step"] for line in trainer.state.log_history if "loss" in line]
    assert losses == list(range(1, STEPS + 1))


def test_transformers_logs_get_no_nan(tmp_path):
    trainer = hugging_face(tmp_path)
    plainly, steps = trainer.model.forward, []

    def diverges(x, labels):
        steps.append(len(steps))
        return {k: v * (torch.nan if steps[-1] == 3 else 1) for k, v in plainly(x, labels).items()}

    trainer.model.forward = diverges
    told = Told()
    with callbacks.TransformersMonitor(trainer, EVERY, told):
        trainer.train()
    ours = [line for line in trainer.state.log_history if "all/frozen_norms" in line]
    assert len(ours) == 4
    assert all(map(finite, ours))
    assert not finite(told[2][1])


@every_optimizer
def test_transformers_counts_steps_not_batches(name, tmp_path):
    told = Told()
    trainer = hugging_face(tmp_path, name, gradient_accumulation_steps=2)
    with callbacks.TransformersMonitor(trainer, EVERY, told):
        trainer.train()
    assert told.exactly() == net_by_hand(name, accumulate=2, epochs=2).exactly()


def test_transformers_resumed_is_uninterrupted(tmp_path):
    whole, parts = Told(), Told()
    for told, folder in [(whole, tmp_path / "whole"), (parts, tmp_path / "parts")]:
        trainer = hugging_face(folder, save_strategy="steps", save_steps=4)
        trainer.add_callback(callbacks.TransformersMonitor(trainer, EVERY, told))
        trainer.train()
    parts[:] = [(step, values) for step, values in parts if step < 4]
    trainer = hugging_face(tmp_path / "parts")
    trainer.add_callback(callbacks.TransformersMonitor(trainer, EVERY, parts))
    trainer.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-4"))
    assert parts.exactly() == whole.exactly()


def test_transformers_in_bfloat16(tmp_path):
    told = Told()
    trainer = hugging_face(tmp_path, bf16=True)
    with callbacks.TransformersMonitor(trainer, EVERY, told):
        trainer.train()
    assert told.steps == [0, 3, 6, 9]


def test_transformers_leaves_nothing_after_an_exception(tmp_path):
    told = Told()
    trainer = hugging_face(tmp_path, fails_at=5 * BATCH)  # Accelerate asks for it a step early
    with (
        pytest.raises(ArithmeticError, match="at an end"),
        callbacks.TransformersMonitor(trainer, EVERY, told) as monitor,
    ):
        trainer.train()
    assert told.steps == [0, 3]
    assert told.closed
    assert not has_hooks(trainer.optimizer.optimizer)
    assert monitor not in trainer.callback_handler.callbacks


def test_transformers_attached_once_where_a_trainer_trains_again(tmp_path):
    told = Told()
    trainer = hugging_face(tmp_path, fails_at=5 * BATCH)
    trainer.add_callback(callbacks.TransformersMonitor(trainer, EVERY, told))
    with pytest.raises(ArithmeticError):
        trainer.train()
    trainer.train_dataset.fails_at = None
    trainer.train()
    assert told.steps == [0, 3, 0, 3, 6, 9]


# ---- without either


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_neither_library_is_loaded_before_it_is_needed():
    code = """
import sys, tangential.integrations.callbacks
print([name for name in ("lightning", "pytorch_lightning", "transformers") if name in sys.modules])
sys.modules.update(lightning=None, pytorch_lightning=None, transformers=None)
for name in tangential.integrations.callbacks.__all__:
    try:
        getattr(tangential.integrations.callbacks, name)
    except ModuleNotFoundError as error:
        print(error)
"""
    assert python(code).stdout.splitlines() == [
        "[]",
        "LightningMonitor needs Lightning: pip install lightning",
        "TransformersMonitor needs transformers: pip install 'transformers[torch]'",
    ]


def test_names():
    for name in callbacks.__all__:
        made = getattr(callbacks, name)
        assert made is getattr(callbacks, name)
        assert (made.__module__, made.__qualname__) == ("tangential.integrations.callbacks", name)
        assert "Args:" in made.__doc__
    with pytest.raises(AttributeError, match="'KerasMonitor'"):
        _ = callbacks.KerasMonitor
