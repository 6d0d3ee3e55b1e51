"""The batches, losses and outputs that an audit takes, and what it refuses."""

import math
from functools import partial

import pytest
import torch
from audit_models import ROW, VECTOR, WHOLE, Model, dense, inputs, net, sequence, units_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential import audit


def normed():
    return sequence(nn.Linear(8, 6), nn.BatchNorm1d(6))


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: (x,),
        lambda x: [x],
        lambda x: {"x": x},
        lambda x: lambda model: model(x.to(next(model.parameters()).dtype)),
    ],
    ids=["tensor", "tuple", "list", "mapping", "function"],
)
def test_a_batch_may_have_any_of_these_forms(form):
    assert units_of(audit(normed(), [form(torch.randn(VECTOR))] * 2)) == {"net.0.weight": ROW}


def test_a_loss_may_use_labels():
    batches = [(torch.randn(VECTOR), torch.randint(6, (7,))) for _ in range(2)]

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    assert units_of(audit(normed(), batches, loss=loss, verify=True)) == {"net.0.weight": ROW}


@pytest.mark.parametrize(
    "outputs",
    [lambda y: (y, None), lambda y: {"a": [y.argmax(), y], "b": 3}, lambda y: y[0, 0]],
    ids=["tuple", "tree", "scalar"],
)
def test_outputs_may_be_any_tree(outputs):
    model = Model(lambda m, x: outputs(m.net(x)), net=nn.Sequential(dense(), nn.LayerNorm(6)))
    result = audit(model, inputs(2))
    assert units_of(result) == {"net.0.weight": WHOLE}


def test_labels_of_a_loader_are_left_out():
    data = TensorDataset(torch.randn(100, 8), torch.randint(6, (100,)))
    result = audit(net(), DataLoader(data, batch_size=10))
    assert units_of(result) == {"inner.weight": WHOLE}
    assert result.batches == 3
    assert any("takes the first 1 of the 2 items" in note for note in result.notes)


@pytest.mark.parametrize(
    "wrap", [lambda m: m, nn.DataParallel, partial(torch.compile, backend="eager")]
)
@pytest.mark.slow
def test_labels_in_a_mapping_are_left_out(wrap):
    batches = [{"x": x, "labels": torch.ones(7), "id": ["a"]} for x in inputs()]
    result = audit(wrap(net()), batches)
    assert result.lines[0].kind == "weight"
    assert any(note.endswith("labels, id.") for note in result.notes)


def test_a_part_that_is_called_module_is_no_wrapper():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = net()

        def forward(self, x, scale):
            return scale * self.module(x)

    result = audit(Scaled(), [(x, torch.tensor(2.0), 3) for x in inputs()])
    assert units_of(result) == {"module.inner.weight": WHOLE}
    assert any("takes the first 2 of the 3 items" in note for note in result.notes)


def test_three_batches_are_taken_from_an_endless_loader():
    assert audit(net(), iter(lambda: torch.randn(VECTOR), None)).batches == 3


def test_tensors_with_a_history_or_of_inference_mode():
    start = torch.randn(VECTOR, requires_grad=True)
    with torch.inference_mode():
        frozen = torch.randn(VECTOR)
        assert units_of(audit(net(), [2 * frozen, frozen])) == {"inner.weight": WHOLE}
    assert units_of(audit(net(), [start, 2 * start, frozen])) == {"inner.weight": WHOLE}
    assert start.grad is None


@pytest.mark.parametrize(
    "batch",
    [{"image": torch.ones(7, 8), "label": 3}, (), []],
    ids=["other names", "empty tuple", "empty list"],
)
def test_what_does_not_fit_is_explained(batch):
    with pytest.raises(TypeError, match=r"does not fit Model.forward\(x\): pass what the model"):
        audit(net(), [batch])


def test_an_error_inside_says_how_the_batch_was_passed():
    with pytest.raises(RuntimeError) as raised:
        audit(net(), [(torch.randint(6, (7,)), torch.randn(VECTOR))])
    assert "is called as model(*batch)" in raised.value.__notes__[0]
    assert raised.value.__notes__[1] == "This is batch 0, a tuple."


@pytest.mark.parametrize(
    ("model", "batches", "error", "words"),
    [
        ("resnet50", [1], TypeError, "model must be .* got an object of type str"),
        (
            nn.Linear(2, 2),
            torch.ones(2, 2),
            TypeError,
            "batches must be .* of type Tensor",
        ),
        (nn.Linear(2, 2), {"x": 1}, TypeError, "got an object of type dict"),
        (nn.Linear(2, 2), 3, TypeError, "got an object of type int"),
        (nn.Linear(2, 2), [], ValueError, "batches must hold at least one batch, got none"),
        (nn.ReLU(), [torch.ones(2)], ValueError, "model must have weights"),
        (nn.LazyLinear(2), [torch.ones(2)], ValueError, "weight is not initialised"),
        (
            nn.Linear(2, 2),
            [torch.full((2, 2), math.nan)],
            ValueError,
            "batch 0 must be .* got nan",
        ),
        (nn.Bilinear(2, 2, 2), [(torch.ones(2, 2),)], TypeError, "does not fit Bilinear"),
    ],
)
def test_wrong_arguments_are_explained(model, batches, error, words):
    with pytest.raises(error, match=words):
        audit(model, batches)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda model, x: model(x), "must be a finite scalar"),
        (lambda model, x: 3.0, "got <class 'float'>"),
        (lambda model, x: x.sum(), "does not depend on the weights"),
    ],
)
def test_a_wrong_loss_is_explained(loss, words):
    with pytest.raises(ValueError, match=words):
        audit(normed(), inputs(1), loss=loss)


def test_outputs_without_a_float_need_a_loss():
    with pytest.raises(ValueError, match="no floating-point tensor"):
        audit(Model(lambda m, x: m.a(x).argmax(), a=dense()), inputs(1))


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda: nn.Linear(8, 6, device="meta"), ValueError, "weight is on the meta device"),
        (
            lambda: nn.Sequential(nn.Linear(8, 6), nn.LazyBatchNorm1d()),
            ValueError,
            r"1\.weight is not",
        ),
        (lambda: net(torch.no_grad()(lambda m, x: m.inner(x))), ValueError, "remove torch.no_grad"),
        (lambda: net(torch.inference_mode()(lambda m, x: m.inner(x))), ValueError, "remove"),
        (lambda: net(lambda m, x: m.inner(x).detach()), ValueError, "detach"),
        (
            lambda: net(lambda m, x: None),
            ValueError,
            "no floating-point tensor, .* NoneType",
        ),
        (
            lambda: net(lambda m, x: 3),
            ValueError,
            "no floating-point tensor, .* int",
        ),
        (lambda: net(lambda m, x: {}["x"]), KeyError, "x"),
    ],
)
def test_a_model_that_cannot_be_audited_is_explained(model, error, words):
    with pytest.raises(error, match=words):
        audit(model(), inputs())


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30, 0.5, "0", None])
def test_a_wrong_seed_is_explained(seed):
    with pytest.raises(ValueError, match="seed must be an integer from 0"):
        audit(net(), inputs(), seed=seed)
