"""The laboratory's Muon: which weights it trains, and its steps."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import AdamW, Muon

from tangential_lab.experiments.bias import rebias
from tangential_lab.experiments.bias.task import ENDS as BIAS_ENDS
from tangential_lab.experiments.detection.centernet import CenterNet
from tangential_lab.experiments.detection.ssd import Detector
from tangential_lab.experiments.detection.task import ENDS, MINI_SSD
from tangential_lab.experiments.digits import digits
from tangential_lab.experiments.language.task import language
from tangential_lab.experiments.pretraining.gpt import GPT, Sizes
from tangential_lab.training import OPTIMIZERS, Task, split_groups
from tangential_lab.training.optimizers.muon import MuonAndAdamW, hidden_matrices

POINT = {"lr": 0.02, "weight_decay": 0.1}
TINY = Sizes(layers=1, width=8, heads=2, context=4)
GPT_ENDS = {"embedding.weight", "head.weight"}


def others(model, ends=None):
    """The weights with two or more axes that are not hidden."""
    hidden = hidden_matrices(model, ends)
    return {name for name, p in model.named_parameters() if p.dim() > 1 and p not in hidden}


@pytest.mark.parametrize(
    ("model", "ends", "expected"),
    [
        (GPT(65, TINY, tied=False), None, GPT_ENDS),
        (GPT(65, TINY, tied=True), None, {"embedding.weight"}),
        (digits().model(), None, {"0.weight", "12.weight"}),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), None, {"0.weight", "1.weight"}),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), (), set()),
        (
            CenterNet(2, (8, 8, 8), (8, 8), 8),
            ENDS["centernet"],
            {"backbone.conv1.weight", "heat.2.weight", "size.2.weight", "offset.2.weight"}
            | {f"ups.{i}.{layer}.weight" for i in (0, 1) for layer in ("0.conv", "3")},
        ),
        (
            Detector(3, (128, 160), MINI_SSD),
            ENDS["ssd"],
            {"ssd.backbone.fine.0.weight"}
            | {
                f"ssd.head.{kind}_head.module_list.{i}.weight"
                for kind in ("classification", "regression")
                for i in range(3)
            },
        ),
        (
            rebias.Pair(rebias.stacked(3), rebias.stacked(1)),
            BIAS_ENDS["rebias"],
            {f"{net}.{end}.weight" for net in "fg" for end in ("body.0", "head")},
        ),
    ],
)
def test_embeddings_and_first_and_last_layers_are_not_hidden(model, ends, expected):
    assert others(model, ends) == expected


def test_in_transformer_xl_all_linear_layers_are_hidden():
    task = language(text="pydoc")
    model = task.model()
    hidden = hidden_matrices(model, task.ends)
    linear = {m.weight for m in model.modules() if isinstance(m, nn.Linear)}
    assert hidden == linear


def test_grouped_and_transposed_convolutions_and_parametrized_weights_are_not_hidden():
    depthwise, transposed = nn.Conv2d(4, 4, 3, groups=4), nn.ConvTranspose2d(4, 4, 3)
    model = nn.Sequential(depthwise, transposed, weight_norm(nn.Linear(4, 4)))
    assert hidden_matrices(model, ()) == set()


def test_an_unknown_end_is_an_error():
    with pytest.raises(ValueError, match=r"names of the model's modules, got \['fc'\]"):
        hidden_matrices(nn.Sequential(nn.Linear(2, 2)), ("fc",))


def net(memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    kernel = nn.Conv2d(4, 6, 3, padding=1)
    layers = nn.Conv2d(3, 4, 3, padding=1), kernel, nn.Flatten(), nn.Linear(96, 8), nn.Linear(8, 5)
    return nn.Sequential(*layers).double().to(memory_format=memory_format)


def optimizer_of(model, name="muon", **options):
    task = Task(**dict.fromkeys(Task._fields) | {"groups": digits().groups})
    groups = split_groups(task, model, frozenset({"1.weight"}), None)
    return OPTIMIZERS[name].build(groups, **POINT | options)


def grads(model, number):
    images = torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(number)).double()
    model.zero_grad()
    model(images).logsumexp(-1).square().mean().backward()


def assert_equal(a, b, **tolerance):
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, **tolerance)


def test_it_is_muon_on_flattened_hidden_matrices_and_adamw_on_the_rest():
    whole, apart = net(), net()
    optimizer = optimizer_of(whole)
    matrices = [nn.Parameter(w.detach().flatten(1)) for w in (apart[1].weight, apart[3].weight)]
    muon = Muon(matrices, adjust_lr_fn="match_rms_adamw", **POINT)
    hidden = [apart[1].weight, apart[3].weight]
    adamw = AdamW([p for p in apart.parameters() if all(p is not w for w in hidden)], **POINT)
    for number in range(5):
        grads(whole, number)
        grads(apart, number)
        for matrix, weight in zip(matrices, hidden, strict=True):
            matrix.grad = weight.grad.flatten(1)
        optimizer.step()
        muon.step()
        adamw.step()
        for matrix, weight in zip(matrices, hidden, strict=True):
            weight.data.copy_(matrix.view_as(weight))
        assert_equal(whole, apart, rtol=0, atol=0)


def test_it_trains_channels_last_kernels_in_place():
    plain, other = net(), net(torch.channels_last)
    pair = optimizer_of(plain), optimizer_of(other)
    for number in range(3):
        for model, optimizer in zip((plain, other), pair, strict=True):
            grads(model, number)
            optimizer.step()
    assert not torch.equal(other[1].weight, net()[1].weight)
    assert_equal(plain, other, rtol=0, atol=2e-3)  # Newton-Schulz is in bfloat16


@pytest.mark.parametrize("name", ["muon", "muon-projected"])
def test_it_continues_from_its_state_dict(name):
    first = net()
    optimizer = optimizer_of(first, name)
    for number in range(3):
        grads(first, number)
        optimizer.step()
    second = copy.deepcopy(first)
    resumed = optimizer_of(second, name)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for number in range(3, 6):
        for model, each in ((first, optimizer), (second, resumed)):
            grads(model, number)
            each.step()
        assert_equal(first, second, rtol=0, atol=0)


def test_only_the_projected_one_steps_orthogonally_to_scale_invariant_rows():
    radial = {}
    for name in ("muon", "muon-projected"):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 2), nn.BatchNorm2d(6), nn.Flatten()
        model = nn.Sequential(*layers, nn.Linear(6, 5)).double()
        optimizer = optimizer_of(model, name, weight_decay=0)
        grads(model, 0)
        before = model[1].weight.detach().flatten(1).clone()
        optimizer.step()
        step = model[1].weight.detach().flatten(1) - before
        radial[name] = ((step * before).sum(1) / before.norm(dim=1)).abs().max()
    assert radial["muon"] > 1e-3
    assert radial["muon-projected"] < 1e-9  # not 0: AdamP divides by (|w| + 1e-8)^2


def test_parameters_without_gradient_stay():
    model = net()
    optimizer = optimizer_of(model)
    grads(model, 0)
    before, model[1].weight.grad = model[1].weight.detach().clone(), None
    optimizer.step()
    assert torch.equal(model[1].weight, before)
    assert model[1].weight not in optimizer.state


def test_it_refuses_a_model_without_hidden_matrices():
    groups = [{"params": [nn.Parameter(torch.ones(2, 2))], "hidden": False}]
    with pytest.raises(ValueError, match="Muon needs a hidden matrix"):
        MuonAndAdamW(groups, **POINT)
