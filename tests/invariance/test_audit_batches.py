"""Batches that an audit takes, and what it refuses."""

from functools import partial

import pytest
import torch
from test_audit import VECTOR, WHOLE, found
from test_audit_models import inputs, net
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential import audit


class TestBatches:
    def test_labels_of_a_loader_are_left_out(self):
        data = TensorDataset(torch.randn(100, 8), torch.randint(6, (100,)))
        result = audit(net(), DataLoader(data, batch_size=10))
        assert found(result) == {"inner.weight": WHOLE}
        assert result.batches == 3
        assert any("2 items, of which the model takes 1" in words for words in result.notes)

    @pytest.mark.parametrize(
        "wrap", [lambda m: m, nn.DataParallel, partial(torch.compile, backend="eager")]
    )
    def test_labels_in_a_mapping_are_left_out(self, wrap):
        batches = [{"x": x, "labels": torch.ones(7), "id": ["a"]} for x in inputs()]
        result = audit(wrap(net()), batches)
        assert result.lines[0].kind == "weight"
        assert any(words.endswith("labels, id.") for words in result.notes)

    def test_a_part_that_is_called_module_is_no_wrapper(self):
        class Scaled(nn.Module):
            def __init__(self):
                super().__init__()
                self.module = net()

            def forward(self, x, scale):
                return scale * self.module(x)

        result = audit(Scaled(), [(x, torch.tensor(2.0), 3) for x in inputs()])
        assert found(result) == {"module.inner.weight": WHOLE}
        assert any("3 items, of which the model takes 2" in words for words in result.notes)

    @pytest.mark.parametrize(
        "batch",
        [{"image": torch.ones(7, 8), "label": 3}, (), []],
        ids=["other names", "empty tuple", "empty list"],
    )
    def test_what_does_not_fit_is_explained(self, batch):
        with pytest.raises(
            TypeError, match=r"does not fit Model.forward\(x\): pass what the model"
        ):
            audit(net(), [batch])

    def test_an_error_inside_says_how_the_batch_was_passed(self):
        with pytest.raises(RuntimeError) as raised:
            audit(net(), [(torch.randint(6, (7,)), torch.randn(VECTOR))])
        assert "is called as model(*batch)" in raised.value.__notes__[0]
        assert raised.value.__notes__[1] == "This is batch 0, a tuple."

    def test_an_endless_loader(self):
        assert audit(net(), iter(lambda: torch.randn(VECTOR), None)).batches == 3

    def test_tensors_with_a_history_or_of_inference_mode(self):
        start = torch.randn(VECTOR, requires_grad=True)
        with torch.inference_mode():
            frozen = torch.randn(VECTOR)
            assert found(audit(net(), [2 * frozen, frozen])) == {"inner.weight": WHOLE}
        assert found(audit(net(), [start, 2 * start, frozen])) == {"inner.weight": WHOLE}
        assert start.grad is None


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
        (lambda: net(lambda m, x: None), ValueError, "no floating-point tensor, but NoneType"),
        (lambda: net(lambda m, x: 3), ValueError, "no floating-point tensor, but int"),
        (lambda: net(lambda m, x: {}["x"]), KeyError, "x"),
    ],
)
def test_other_errors(model, error, words):
    with pytest.raises(error, match=words):
        audit(model(), inputs())


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30, 0.5, "0", None])
def test_seeds(seed):
    with pytest.raises(ValueError, match="seed must be an integer from 0"):
        audit(net(), inputs(), seed=seed)
