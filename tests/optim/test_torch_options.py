"""Options as schedulers, trainers, checkpoints and configuration files hand them over."""

import copy
import json
import shutil
from collections.abc import MutableSequence
from fractions import Fraction
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from table import RULES, every_backend
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import lr_scheduler

from tangential import SGDP, AdamP

every_rule = pytest.mark.parametrize("cls", RULES.values())


def usual(cls):
    return {"lr": 0.05} if cls is AdamP else {"lr": 0.05, "momentum": 0.9}


def weights():
    return [nn.Parameter(torch.randn(shape)) for shape in [(6, 4), (4,)]]


def given_gradients(params):
    for p in params:
        p.grad = torch.randn_like(p)


class ListConfig(MutableSequence):
    """A list of a configuration, as OmegaConf has it: neither a list nor a tuple."""

    def __init__(self, values):
        self.values = list(values)

    def __getitem__(self, index):
        return self.values[index]

    def __setitem__(self, index, value):
        self.values[index] = value

    def __delitem__(self, index):
        del self.values[index]

    def __len__(self):
        return len(self.values)

    def insert(self, index, value):
        self.values.insert(index, value)


@every_backend
@every_rule
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_scheduler_that_ends_at_zero_may_round_below_it(cls, backend, as_tensor):
    params = weights()
    lr = torch.tensor(0.05, dtype=torch.float64) if as_tensor else 0.05
    optimizer = cls(params, **usual(cls) | {"lr": lr, "weight_decay": 0.1}, **backend)
    schedule = lr_scheduler.LinearLR(optimizer, 1 / 3, end_factor=0.0, total_iters=10)
    rates = []
    for _ in range(12):
        given_gradients(params)
        optimizer.step()
        schedule.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    assert -1e-15 < min(rates) < 0
    other = cls(weights(), **usual(cls), **backend)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))


@every_rule
@pytest.mark.parametrize(
    ("name", "value", "initial", "fits"),
    [
        ("lr", -1e-20, {}, True),
        ("lr", -1e-10, {"initial_lr": 1e-3}, True),  # as float32 rounds
        ("lr", -1e-7, {"initial_lr": 1e-3}, False),
        ("lr", -1e-7, {}, False),
        ("weight_decay", -1e-17, {}, True),
        ("weight_decay", -1e-3, {}, False),
        ("eps", -1e-20, {}, False),
    ],
)
def test_what_counts_as_round_off(cls, name, value, initial, fits):
    params = weights()
    optimizer = cls(params, **usual(cls))
    optimizer.param_groups[0].update({name: value} | initial)
    given_gradients(params)
    if fits:
        optimizer.step()
    else:
        with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
            optimizer.step()


@every_rule
def test_a_compiled_step_is_not_compiled_again_when_a_scheduler_turns_numbers(cls):
    """One graph makes the states, the other has all numbers as inputs."""
    torch._dynamo.reset()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    params = weights()
    twins = copy.deepcopy(params)
    optimizer, plain = (cls(ps, **usual(cls), weight_decay=0.1) for ps in (params, twins))
    step = torch.compile(optimizer.step, backend=counted, fullgraph=True)
    schedule = lr_scheduler.LinearLR(plain, 1 / 3, end_factor=0.0, total_iters=6)
    for t in range(8):
        given_gradients(params)
        for p, q in zip(params, twins, strict=True):
            q.grad = p.grad.clone()
        for group in (optimizer.param_groups[0], plain.param_groups[0]):
            group["lr"] = plain.param_groups[0]["lr"]
            group["weight_decay"] = 0.1 / (t + 1)
            if cls is AdamP:
                group["betas"] = (0.9 - 0.01 * t, 0.999 - 0.001 * t)
            else:
                group["momentum"] = 0.9 - 0.01 * t
        step()
        plain.step()
        schedule.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert len(graphs) == 2


@pytest.mark.skipif(not shutil.which("c++"), reason="Inductor needs a C++ compiler")
@pytest.mark.parametrize("name", ["lr", "betas"])
def test_a_graph_that_inductor_compiled_follows_a_schedule(name, tmp_path, monkeypatch):
    """Its cache of graphs has kept the first value of a float that is an alpha or an exponent."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    values = {
        "lr": [0.1, 0.07, 0.05, 0.02],
        "betas": [(0.9, 0.99), (0.8, 0.95), (0.7, 0.9), (0.6, 0.8)],
    }
    param = nn.Parameter(torch.randn(8, 4))
    twin = copy.deepcopy(param)
    optimizer, plain = AdamP([param], weight_decay=0.1), AdamP([twin], weight_decay=0.1)
    step = torch.compile(optimizer.step)
    for value in values[name]:
        for group in (*optimizer.param_groups, *plain.param_groups):
            group[name] = value
        given_gradients([param])
        twin.grad = param.grad.clone()
        step()
        plain.step()
        torch.testing.assert_close(param, twin, rtol=1e-5, atol=1e-6)


KINDS = {  # of the number 2, and of betas
    "numpy": (np.float32(2), np.int64(2), np.array([0.5, 0.75])),
    "fraction": (Fraction(2), 2, (Fraction(1, 2), Fraction(3, 4))),
    "tensor": (torch.tensor(2.0), 2, torch.tensor([0.5, 0.75])),
}


@every_backend
@every_rule
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("later", [False, True])
def test_numbers_of_any_kind_are_numbers(cls, backend, kind, later):
    number, integer, betas = KINDS[kind]
    odd = dict.fromkeys(("lr", "eps", "weight_decay", "delta", "wd_ratio"), number)
    odd |= {"row_groups": integer} | ({"betas": betas} if cls is AdamP else {"dampening": number})
    usual_ = dict.fromkeys(odd, 2) | ({"betas": (0.5, 0.75)} if cls is AdamP else {})
    params, twins = [nn.Parameter(torch.randn(6, 4))], None
    twins = copy.deepcopy(params)
    optimizer = cls(params, **backend, **({"lr": 1} if later else odd))
    plain = cls(twins, **backend, **usual_)
    if later:
        optimizer.param_groups[0].update(odd)
    given_gradients(params)
    twins[0].grad = params[0].grad.clone()
    optimizer.step()
    plain.step()
    assert torch.equal(params[0], twins[0])
    if not later and kind == "numpy":
        assert type(optimizer.param_groups[0]["row_groups"]) is int


@every_backend
@every_rule
@pytest.mark.parametrize("name", ["lr", "eps", "wd_ratio", "weight_decay"])
def test_a_huge_integer_is_its_float(cls, backend, name):
    params = weights()
    optimizer = cls(params, **usual(cls) | backend | {name: 10**30})
    given_gradients(params)
    optimizer.step()


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fan", [16, 17])
def test_without_second_moment_and_eps_rows_are_projected_all_the_same(backend, dtype, fan):
    """The kernel fills up rows with zeros; 0 / 0 there must not reach the row's sums."""
    param = nn.Parameter(torch.randn(4, fan, dtype=dtype))
    twin = copy.deepcopy(param)
    options = {"lr": 0.1, "betas": (0.9, 0.0), "eps": 0.0, "projection": "row"}
    optimizer, plain = AdamP([param], **backend, **options), AdamP([twin], foreach=False, **options)
    for _ in range(3):
        given_gradients([param])
        twin.grad = param.grad.clone()
        optimizer.step()
        plain.step()
    torch.testing.assert_close(param, twin)


def test_a_weight_that_moves_on_in_the_optimizer_resumes_with_its_noise():
    """Stochastic rounding tells weights apart by their places, which a new weight shifts."""
    first, second = (nn.Parameter(torch.randn(8, 8).bfloat16()) for _ in range(2))
    optimizer = AdamP([{"params": [first]}, {"params": [second]}], low_precision="stochastic")
    given_gradients([first, second])
    optimizer.step()
    optimizer.param_groups[0]["params"].append(nn.Parameter(torch.randn(2)))
    saved, twin = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(second)
    other = AdamP(
        [
            {
                "params": [
                    nn.Parameter(torch.randn_like(p)) for p in optimizer.param_groups[0]["params"]
                ]
            },
            {"params": [twin]},
        ],
        low_precision="stochastic",
    )
    other.load_state_dict(saved)
    given_gradients([second])
    twin.grad = second.grad.clone()
    first.grad = None
    optimizer.step()
    other.step()
    assert torch.equal(second, twin)


@every_backend
@pytest.mark.parametrize(
    "betas",
    [
        [0.8, 0.95],
        ListConfig([0.8, 0.95]),
        torch.tensor([0.8, 0.95], dtype=torch.float64),
        (torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.95, dtype=torch.float64)),
    ],
    ids=["list", "ListConfig", "tensor", "tensors"],
)
def test_betas_of_any_sequence_are_the_tuple(betas, backend):
    params = weights()
    twins = copy.deepcopy(params)
    optimizer, plain = (
        AdamP(params, betas=betas, **backend),
        AdamP(twins, betas=(0.8, 0.95), **backend),
    )
    optimizer.add_param_group({"params": (more := weights()), "betas": betas})
    assert all(type(group["betas"]) is tuple for group in optimizer.param_groups)
    for _ in range(3):
        given_gradients([*params, *more])
        for p, q in zip(params, twins, strict=True):
            q.grad = p.grad.clone()
        optimizer.step()
        plain.step()
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


@pytest.mark.parametrize("name", ["weight_decay", "eps", "delta", "momentum"])
def test_other_numbers_may_be_tensors_too(name):
    params = weights()
    twins = copy.deepcopy(params)
    numbers = {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.25, "eps": 2**-20, "delta": 0.125}
    optimizer = SGDP(params, **numbers | {name: torch.tensor(numbers[name])})
    plain = SGDP(twins, **numbers)
    given_gradients(params)
    for p, q in zip(params, twins, strict=True):
        q.grad = p.grad.clone()
    optimizer.step()
    plain.step()
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov is True with momentum 0"):
        SGDP(weights(), lr=0.1, nesterov=True)
    optimizer = SGDP(weights(), lr=0.1)
    with pytest.raises(ValueError, match="nesterov is True with momentum 0"):
        optimizer.add_param_group({"params": weights(), "nesterov": True})
    SGDP([{"params": weights(), "momentum": 0.9}], lr=0.1, nesterov=False)
    AdamP(weights(), nesterov=True)


@every_rule
@pytest.mark.parametrize("state_dtype", [torch.float32, "float32"])
def test_options_and_full_state_dicts_are_plain(cls, state_dtype):
    model = nn.Linear(4, 3).bfloat16()
    optimizer = cls(model.parameters(), state_dtype=state_dtype, **usual(cls))
    given_gradients(model.parameters())
    optimizer.step()
    for group in optimizer.param_groups:
        json.dumps({k: v for k, v in group.items() if k != "params"})
    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    saved = get_optimizer_state_dict(model, optimizer, options=full)
    other = cls(model.parameters(), **usual(cls))
    set_optimizer_state_dict(model, other, saved)
    assert other.param_groups[0]["state_dtype"] == "float32"
    name = optimizer.buffers[0]
    assert optimizer.state[model.weight][name].dtype == torch.float32
    optimizer.param_groups[0]["state_dtype"] = torch.float32  # as a user may set it later
    optimizer.step()


@every_rule
@pytest.mark.parametrize("fused", [None, True, False])
def test_grad_scaler_without_any_gradient_steps_nothing(cls, fused):
    params = weights()
    before = copy.deepcopy(params)
    optimizer = cls(params, fused=fused, **usual(cls))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.ones((), requires_grad=True) * 1.0).backward()
    reference = torch.optim.AdamW(weights(), fused=fused)
    try:
        scaler.step(reference)
    except AssertionError:  # what torch says where the scaler finds no gradient to check
        with pytest.raises(AssertionError, match="No inf checks"):
            scaler.step(optimizer)
    else:
        scaler.step(optimizer)
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))


@every_rule
def test_only_fused_true_claims_to_unscale(cls):
    assert cls(weights(), fused=True, **usual(cls))._step_supports_amp_scaling
    for chosen in ({}, {"fused": False}, {"foreach": True}):
        assert not cls(weights(), **chosen, **usual(cls))._step_supports_amp_scaling


@every_rule
def test_editors_know_the_closed_sets(cls):
    hints = get_type_hints(cls.__init__)
    assert set(get_args(hints["projection"])) == {"auto", "row", "weight", "off"}
    words = {
        name: {word for hint in get_args(hints[name]) for word in get_args(hint)}
        for name in ("low_precision", "wd_ratio", "state_dtype")
    }
    assert words["low_precision"] == {"stochastic", "kahan"}
    assert (words["wd_ratio"], words["state_dtype"]) == ({"matched"}, {"float32"})


@every_rule
@pytest.mark.filterwarnings("ignore")
def test_lightning_clips_gradients_in_mixed_precision(cls, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 1)

        def training_step(self, batch, _):
            return 1e3 * self.net(batch).square().mean()

        def configure_optimizers(self):
            return cls(self.parameters(), **usual(cls))

    module = Module()
    before = copy.deepcopy(module.net.weight)
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4))
    assert trainer.global_step == 2
    assert not torch.equal(module.net.weight, before)
