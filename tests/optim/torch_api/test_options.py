"""Options of any type: numbers, tensors and lists, as schedulers and configurations have them."""

import copy
from collections.abc import MutableSequence
from fractions import Fraction
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from table import every_backend, every_rule
from torch import nn
from torch.optim import lr_scheduler
from trained_nets import given_gradients, weights

from tangential import SGDP, AdamP


def usual(cls):
    return {"lr": 0.05} if cls is AdamP else {"lr": 0.05, "momentum": 0.9}


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
def test_slightly_negative_options_count_as_rounded_zeros(cls, name, value, initial, fits):
    params = weights()
    optimizer = cls(params, **usual(cls))
    optimizer.param_groups[0].update({name: value} | initial)
    given_gradients(params)
    if fits:
        optimizer.step()
    else:
        with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
            optimizer.step()


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
def test_type_hints_list_the_values_of_closed_options(cls):
    hints = get_type_hints(cls.__init__)
    assert set(get_args(hints["projection"])) == {"auto", "row", "weight", "off"}
    words = {
        name: {word for hint in get_args(hints[name]) for word in get_args(hint)}
        for name in ("low_precision", "wd_ratio", "state_dtype")
    }
    assert words["low_precision"] == {"stochastic", "kahan"}
    assert (words["wd_ratio"], words["state_dtype"]) == ({"matched"}, {"float32"})
