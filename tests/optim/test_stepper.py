"""Threads that share an optimizer, what it keeps between steps, and what a step waits for."""

import copy
import gc
import threading
import weakref
from collections import Counter

import pytest
import torch
from table import every_backend, every_rule, leaf, stepped, usual
from torch import nn
from torch.autograd.profiler import profile
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import AdamP


@every_backend
@every_rule
def test_threads_that_share_an_optimizer_take_turns(cls, backend):
    """Each step counts once, as if one thread had taken them all; other threads drop gradients."""
    params = [nn.Parameter(torch.randn(64, 64)) for _ in range(3)]
    twins = copy.deepcopy(params)
    optimizer, plain = (cls(ps, **usual(cls), **backend) for ps in (params, twins))
    grads = [torch.randn(64, 64) for _ in params]
    for ps in (params, twins):
        for p, g in zip(ps, grads, strict=True):
            p.grad = g.clone()
    errors = []

    def run():
        try:
            for _ in range(10):
                optimizer.step()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(40):
        plain.step()
    assert not errors
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


@every_rule
def test_a_state_dict_may_be_loaded_while_another_thread_steps(cls):
    params = [nn.Parameter(torch.randn(16, 8)) for _ in range(3)]
    optimizer = cls(params, **usual(cls))
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    errors, over = [], threading.Event()

    def run():
        try:
            while not over.is_set():
                optimizer.step()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(15):  # 100 ms each: the other thread has the interpreter most of the time
        optimizer.load_state_dict(saved)
    over.set()
    thread.join()
    assert not errors


@pytest.mark.parametrize("keeps_group", [True, False])
def test_a_weight_that_left_the_optimizer_is_freed(keeps_group):
    params = [nn.Parameter(torch.randn(4, 3)) for _ in range(2)]
    optimizer = AdamP([{"params": [p]} for p in params])
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    gone = weakref.ref(params[1])
    if keeps_group:
        optimizer.param_groups[1]["params"].clear()
    else:
        optimizer.param_groups.pop()
    optimizer.state.pop(params.pop())
    del p
    optimizer.step()
    gc.collect()
    assert gone() is None


def test_gradients_are_not_kept_after_a_step():
    param, optimizer = stepped(AdamP, {})
    gone = weakref.ref(param.grad)
    optimizer.step()
    param.grad = None
    assert gone() is None


@pytest.mark.slow
def test_states_that_were_replaced_are_not_kept_alive():
    """A kernel plan outlives its step, and must not hold the states that it was built with."""
    param, optimizer = stepped(AdamP, {})
    param.grad = torch.randn_like(param)
    optimizer.step()
    state = optimizer.state[param]
    gone = weakref.ref(state["exp_avg"])
    optimizer.state[param] = {name: x.clone() for name, x in state.items()}
    del state
    optimizer.step()
    gc.collect()
    assert gone() is None


class Asked(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[str(func)] += 1
        return func(*args, **(kwargs or {}))


@every_backend
@every_rule
@pytest.mark.parametrize("options", [{}, {"caution": True}, {"row_groups": 2}])
def test_no_step_waits_for_a_device(cls, options, backend):
    """Only the step counts are read, and they lie on the CPU."""
    params = [nn.Parameter(torch.randn(shape)) for shape in [(6, 4), (4, 3, 2), (4,), (2, 70_000)]]
    optimizer = cls(params, **backend, **usual(cls), **options)
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    with Asked() as asked:
        optimizer.step()
    reads = {"checked": "foreach" in backend, "used": backend == {"foreach": True}}
    counted = len(params) * sum(reads.values()) if cls is AdamP else 0
    assert asked.names.pop("aten._local_scalar_dense.default", 0) == counted
    waiting = {"nonzero", "equal", "masked_select", "repeat_interleave.Tensor", "is_nonzero"}
    assert not [name for name in asked.names if any(word in name for word in waiting)]
    assert (sum(asked.names.values()) > 10) == ("foreach" in backend)


def test_options_are_checked_again_only_if_a_value_may_have_changed():
    param = nn.Parameter(torch.ones(3, 2))
    param.grad = torch.ones(3, 2)
    optimizer = AdamP([param], lr=0.1)
    group, betas = optimizer.param_groups[0], [0.9, 0.99]
    known = optimizer._stepper.options[0]

    def options():
        optimizer.step()
        return known.at_step("adam", group)

    first = options()
    assert options() is first
    group["lr"] = 0.2
    second = options()
    assert second.lr == 0.2
    group["betas"] = betas
    assert options().betas == (0.9, 0.99)
    betas[0] = 0.8  # in place
    assert options().betas == (0.8, 0.99)
    group["betas"] = (0.9, 0.99)
    group["lr"] = torch.tensor(0.1)
    before = param.clone()
    optimizer.step()
    group["lr"].fill_(0.0)
    moved = param.clone()
    optimizer.step()
    assert not torch.equal(moved, before)
    assert torch.equal(param, moved)


def test_a_hook_that_a_closure_adds_is_called():
    param, seen = leaf(torch.ones(2, 2)), []
    param.grad = torch.ones(2, 2)
    optimizer = AdamP([param])
    optimizer.step()
    optimizer.step(lambda: optimizer.register_step_post_hook(lambda *_: seen.append("called")))
    assert seen == ["called"]


def test_a_step_that_a_subclass_has_decorated_stays_decorated():
    class Own(AdamP):
        calls = 0

        def step(self, closure=None):
            Own.calls += 1
            return super().step(closure)

        step.hooked = True
        step.__wrapped__ = AdamP.step

    Own([leaf(torch.ones(2, 2))]).step()
    assert Own.calls == 1


def test_a_step_tells_profilers_and_global_hooks():
    """Only then does it call torch's wrapper, which costs as much as a small step."""
    param = leaf(torch.ones(2, 2))
    param.grad = torch.ones(2, 2)
    optimizer, seen = AdamP([param]), []
    optimizer.step()
    handle = register_optimizer_step_post_hook(lambda *args: seen.append(args[0]))
    optimizer.step()
    handle.remove()
    assert seen == [optimizer]
    with profile(use_kineto=False) as profiled:  # Kineto takes seconds to start
        optimizer.step()
    optimizer.step()
    names = [event.name for event in profiled.function_events]
    assert names.count("Optimizer.step#AdamP.step") == 1
    assert len(seen) == 1
    assert optimizer.state[param]["step"] == 4
