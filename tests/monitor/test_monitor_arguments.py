"""The arguments of a monitor: what is refused, and how a step number is read."""

import math
from pathlib import Path

import numpy
import pytest
import torch
from monitored_nets import OPTIMIZERS, losses, net
from torch import nn

from tangential import Monitor, audit
from tangential.monitor import Monitors, sinks


def test_a_wrapped_optimizer_is_unwrapped_and_others_are_refused():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    model = net()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Monitor(model, Wrapper(inner)).optimizer is inner
    with pytest.raises(
        TypeError, match=r"optimizer must be a torch\.optim\.Optimizer, got a Linear"
    ):
        Monitor(model, nn.Linear(1, 1))
    with pytest.raises(ValueError, match="no weight of the model"):
        Monitor(model, optimizer)


@pytest.mark.parametrize("every", [0, -1, 1.5, "often"])
def test_every_must_be_a_positive_integer(every):
    model = net()
    with pytest.raises(ValueError, match=f"every must be an integer >= 1, got {every!r}"):
        Monitor(model, torch.optim.SGD(model.parameters(), lr=0.1), every)


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
        ([sinks.memory], "got memory"),
    ],
)
def test_sinks_that_cannot_be_called_are_refused_at_once(sinks, said):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=rf"sinks must be callables \(values, step\), {said}"):
        Monitor(model, optimizer, sinks=sinks)
    assert not optimizer._optimizer_step_pre_hooks


def test_an_object_that_is_not_an_audit_is_refused():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"audit must be what tangential\.audit.* got <function"):
        Monitor(model, optimizer, audit=audit)


# ---- step numbers


BAD_STEPS = [1.5, True, -1, "a", None, math.nan, math.inf, torch.tensor(True), torch.zeros(2), [3]]


@pytest.mark.parametrize("step", BAD_STEPS, ids=repr)
def test_a_step_that_is_not_an_integer_is_refused(step):
    model = net()
    optimizer = OPTIMIZERS["AdamP"](model.parameters())
    with pytest.raises(ValueError, match=r"step must be an integer >= 0, got "):
        Monitor(model, optimizer, step=step)
    with Monitor(model, optimizer) as monitor:
        with pytest.raises(ValueError, match=r"step must be an integer >= 0, got "):
            monitor.step = step
        assert monitor.step == 0


def test_a_step_too_large_for_files_is_refused():
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


def test_a_step_number_from_a_trainer_is_checked():
    model, now, logged = net(), [torch.tensor(7.0)], sinks.memory()
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


def test_a_function_may_number_the_steps():
    model, logged, numbers = net(), [], iter([3, 7.0, 8, -1])
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    number = lambda: next(numbers)
    with Monitor(model, optimizer, 1, lambda _, step: logged.append(step), step=number):
        for loss in losses(model, 3):
            loss.backward()
            optimizer.step()
        with pytest.raises(ValueError, match="step must be an integer >= 0, got -1"):
            optimizer.step()
    assert logged == [3, 7, 8]
    assert type(logged[1]) is int
