"""Compiled steps: one graph, which follows a schedule and is not compiled again."""

import copy
import shutil

import pytest
import torch
import torch.distributed as dist
from table import every_backend, every_rule, usual
from torch import nn
from torch._dynamo.utils import counters
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from trained_nets import given_gradients, weights

from tangential import AdamP

pytestmark = pytest.mark.slow
every_compiler = pytest.mark.parametrize("compiler", ["eager", "aot_eager"])


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch._dynamo.reset()
    counters.clear()


def graphs():
    return counters["stats"]["unique_graphs"]


def pair(cls, params=None, **options):
    """An optimizer, and one of equal weights with an lr of its own."""
    params = params or weights()
    options = usual(cls) | {"weight_decay": 0.1} | options
    return [cls(ps, **copy.deepcopy(options)) for ps in (params, copy.deepcopy(params))]


def params_of(optimizer):
    return optimizer.param_groups[0]["params"]


def draw_gradients(optimizer, plain):
    given_gradients(params_of(optimizer))
    for p, q in zip(params_of(optimizer), params_of(plain), strict=True):
        q.grad = p.grad.clone()


def is_equal(optimizer, plain):
    return all(
        torch.equal(p, q) for p, q in zip(params_of(optimizer), params_of(plain), strict=True)
    )


def turn(optimizer, t):
    """What schedulers do: numbers get another value, a tensor is changed in place."""
    for group in optimizer.param_groups:
        lr = 0.1 / (t + 1)
        group["lr"] = group["lr"].fill_(lr) if isinstance(group["lr"], torch.Tensor) else lr
        group["weight_decay"] = 0.1 / (t + 1)
        if "betas" in group:
            group["betas"] = (0.9 - 0.01 * t, 0.999 - 0.001 * t)
        else:
            group["momentum"] = 0.9 - 0.01 * t


@every_rule
@every_compiler
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["number", "tensor"])
def test_a_step_is_compiled_once_whatever_schedulers_turn(cls, compiler, lr):
    optimizer, plain = pair(cls, lr=lr)
    step = torch.compile(optimizer.step, backend=compiler, fullgraph=True)
    for t in range(12):
        draw_gradients(optimizer, plain)
        turn(optimizer, t)
        turn(plain, t)
        step()
        plain.step()
        assert is_equal(optimizer, plain)
    assert graphs() == 1


@pytest.mark.skipif(not shutil.which("c++"), reason="Inductor needs a C++ compiler")
def test_a_graph_that_inductor_compiled_follows_a_schedule(tmp_path, monkeypatch):
    """Its cache of graphs has kept the first value of a float that is an alpha or an exponent."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    optimizer, plain = pair(AdamP)
    step = torch.compile(optimizer.step)
    for t in range(4):
        draw_gradients(optimizer, plain)
        turn(optimizer, t)
        turn(plain, t)
        step()
        plain.step()
        assert is_equal(optimizer, plain)


@every_backend
def test_a_compiled_step_is_that_of_the_backend(backend):
    optimizer, plain = pair(AdamP, **backend)
    step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    for _ in range(3):
        draw_gradients(optimizer, plain)
        step()
        plain.step()
        assert is_equal(optimizer, plain)


@every_compiler
def test_a_step_follows_what_its_graph_has_computed(compiler):
    """New weights, gradients and rates are in the graph before they are in the optimizer."""
    optimizer, plain = pair(AdamP, lr=torch.tensor(0.1))

    def step(optimizer):
        with torch.no_grad():
            for p in params_of(optimizer):
                p.mul_(1.5)
                p.grad = 2 * p.cos()
            optimizer.param_groups[0]["lr"].mul_(0.5)
        optimizer.step()
        return [p.square().sum() for p in params_of(optimizer)]

    compiled = torch.compile(step, backend=compiler, fullgraph=True)
    for _ in range(3):
        assert compiled(optimizer) == step(plain)
        assert is_equal(optimizer, plain)


@every_compiler
def test_a_weight_whose_gradient_the_graph_drops_is_not_stepped(compiler):
    optimizer, plain = pair(AdamP)
    draw_gradients(optimizer, plain)

    def skip_first(each):
        params_of(each)[0].grad = None
        each.step()

    torch.compile(skip_first, backend=compiler, fullgraph=True)(optimizer)
    skip_first(plain)
    assert is_equal(optimizer, plain)


def test_states_that_a_compiled_function_sets_hold_for_its_step():
    optimizer, plain = pair(AdamP)

    def restart(each):
        weight = params_of(each)[0]
        each.state[weight]["exp_avg"] = torch.zeros_like(weight)
        each.step()

    draw_gradients(optimizer, plain)
    for each in (optimizer, plain):
        each.step()
    torch.compile(restart, backend="eager")(optimizer)
    restart(plain)
    assert is_equal(optimizer, plain)


def test_options_that_a_compiled_function_sets_hold_for_its_step():
    optimizer, plain = pair(AdamP)

    def step(optimizer, lr):
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()

    compiled = torch.compile(step, backend="eager")
    for t in range(3):
        draw_gradients(optimizer, plain)
        compiled(optimizer, 0.1 / (t + 1))
        step(plain, 0.1 / (t + 1))
        assert is_equal(optimizer, plain)


def test_a_compiled_step_follows_new_groups_and_checkpoints():
    optimizer, plain = pair(AdamP)
    step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    other = nn.Parameter(torch.ones(3, 4))
    other.grad = torch.ones(3, 4)
    saved = copy.deepcopy(optimizer.state_dict())
    for t in range(4):
        draw_gradients(optimizer, plain)
        if t == 1:
            optimizer.load_state_dict(saved)
            plain.load_state_dict(copy.deepcopy(saved))
        if t == 2:
            optimizer.param_groups = [dict(optimizer.param_groups[0])]
        if t == 3:
            optimizer.add_param_group({"params": [other]})
        step()
        plain.step()
        assert is_equal(optimizer, plain)
    assert not torch.equal(other, torch.ones(3, 4))


def test_copies_of_an_optimizer_have_graphs_of_their_own():
    optimizer, _ = pair(AdamP)
    given_gradients(params_of(optimizer))
    twin = copy.deepcopy(optimizer)
    before = [p.clone() for p in params_of(optimizer)]
    for p, q in zip(params_of(twin), params_of(optimizer), strict=True):
        p.grad = q.grad
    torch.compile(twin.step, backend="eager", fullgraph=True)()
    assert all(torch.equal(p, q) for p, q in zip(params_of(optimizer), before, strict=True))
    assert not any(torch.equal(p, q) for p, q in zip(params_of(twin), before, strict=True))


def test_errors_are_those_of_a_step():
    optimizer, plain = pair(AdamP)
    draw_gradients(optimizer, plain)
    step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    step()
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr must be a finite number"):
        step()
    assert torch.is_grad_enabled()


@pytest.fixture
def mesh():
    """Two processes, of which one is this one and the other does nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


def test_a_step_of_sharded_weights_is_compiled_once(mesh):
    def part(size, axis):
        local = torch.randn(2 + size.numel())[2:].view(size)  # FSDP2's gradients are views, too
        return DTensor.from_local(local, mesh, [Shard(axis)])

    axes = (0, 1)  # whole rows, and half rows
    params = [
        nn.Parameter(distribute_tensor(torch.randn(6, 4), mesh, [Shard(axis)])) for axis in axes
    ]
    optimizer, plain = pair(AdamP, params)
    step = torch.compile(optimizer.step, backend="aot_eager", fullgraph=True)
    for t in range(3):
        pairs = [*zip(params_of(optimizer), params_of(plain), strict=True)]
        for (p, q), axis in zip(pairs, axes, strict=True):
            p.grad = q.grad = part(p.to_local().shape, axis)
        turn(optimizer, t)
        turn(plain, t)
        step()
        plain.step()
        assert all(torch.equal(p.to_local(), q.to_local()) for p, q in pairs)
    assert graphs() == 1
