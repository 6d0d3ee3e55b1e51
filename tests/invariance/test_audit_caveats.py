"""Caveats and remedies: why a weight is not invariant, and what to change."""

import pytest
import torch
from audit_models import (
    IMAGE,
    ROW,
    SEQUENCE,
    VECTOR,
    Model,
    conv,
    dense,
    inputs,
    sequence,
    units_of,
)
from known_nets import Attention, built
from torch import nn
from torch.nn.functional import silu

from tangential import audit
from tangential.invariance.caveats import _surely_invariant
from tangential.invariance.copies import FLOAT64
from tangential.invariance.evidence import TOLERANCE, Finding


def notes_of(model, name, size, **options):
    return " ".join(audit(model, inputs(size=size), **options)[name].notes)


def test_a_bias_before_a_normalisation_is_named():
    model, batches = built("layer norm, zero bias")
    result = audit(model, batches)
    words = (
        "would be scale-invariant as a whole without the bias before the normalisation (net.0.bias)"
    )
    assert result["net.0.weight"].notes == (words,)
    model, batches = built("group norm, bias")
    assert "by unit of 2 rows without" in audit(model, batches)["net.0.weight"].notes[0]


def test_a_bias_that_batch_norm_subtracts_has_no_effect():
    model, batches = built("batch norm, bias")
    assert "subtracts it again" in audit(model, batches)["net.0.bias"].notes[0]


def test_no_bias_is_blamed_where_there_is_no_normalisation():
    model, batches = built("none")
    assert audit(model, batches)["net.0.weight"].notes == ()


def test_no_bias_is_blamed_by_chance():
    """One batch leaves less than TOLERANCE by chance, once in 1,250 weights."""
    assert _surely_invariant(Finding("weight", radial=1e-12), FLOAT64.sure)
    assert not _surely_invariant(Finding("weight", radial=TOLERANCE / 10), FLOAT64.sure)


def test_a_frozen_batch_norm_is_named():
    model, batches = built("frozen batch norm")
    result = audit(model, batches)
    assert "by row if BatchNorm were in training mode" in result["net.0.weight"].notes[0]
    assert any("Frozen BatchNorm (net.1)" in words for words in result.notes)


def test_a_frozen_batch_norm_of_another_class_is_named():
    frozen = pytest.importorskip("torchvision.ops").FrozenBatchNorm2d(6)
    result = audit(sequence(conv(), frozen), inputs(size=IMAGE))
    assert units_of(result) == {}
    assert any("Frozen BatchNorm (net.1)" in words for words in result.notes)


def test_eval_mode_differs_from_training_mode():
    model, batches = built("batch norm")
    training, evaluated = audit(model, batches), audit(model.eval(), batches)
    assert (training.mode, evaluated.mode) == ("training", "eval")
    assert units_of(training) == {"net.0.weight": ROW}
    assert units_of(evaluated) == {}
    assert "if BatchNorm were in training mode" in evaluated["net.0.weight"].notes[0]
    assert any("In eval mode, net.1" in words for words in training.notes)


def test_eval_mode_with_one_sample_is_no_error():
    model = sequence(nn.Linear(8, 6), nn.BatchNorm1d(6)).eval()
    assert units_of(audit(model, inputs(2, (1, 8)))) == {}


def test_tied_weights_name_one_another():
    model, batches = built("tied")
    assert "tied with b.weight" in audit(model, batches)["a.weight"].notes


@pytest.mark.parametrize("noisy", [True, False])
def test_noise_is_noted_and_does_not_matter(noisy):
    def forward(m, x):
        return m.norm(m.a(x) * (torch.rand(6, dtype=x.dtype) if noisy else 1))

    model = Model(forward, a=dense(), norm=nn.BatchNorm1d(6))
    result = audit(model, inputs(), verify=True)
    assert units_of(result) == {"a.weight": ROW}
    assert any("noise" in words for words in result.notes) == noisy
    assert all(line.verified for line in result.lines)


def test_frozen_weights_are_noted():
    model = sequence(dense(), nn.LayerNorm(6)).requires_grad_(False)
    model.net[1].weight.requires_grad_(True)
    assert notes_of(model, "net.0.weight", VECTOR) == "frozen (requires_grad=False)"


def test_the_invariant_rows_of_a_weight_are_named():
    assert "only rows 0-15 along axis 0, in units of 4 are" in notes_of(
        Attention(), "in_proj.weight", SEQUENCE
    )


def test_rows_without_gradient_are_counted():
    model, _ = built("embedding")
    result = audit(model, [torch.full((2, 3), -9.0), torch.full((2, 3), 0.0)])
    assert units_of(result) == {"embedding.weight": ROW}
    assert result["embedding.weight"].notes == ("8 units had no gradient",)


def test_a_weight_that_is_not_used_is_dead():
    model = Model(lambda m, x: m.a(x), a=dense(), b=dense())
    result = audit(model, inputs(2), verify=True)
    assert result.names("dead") == ["b.weight"]
    words = "no gradient: these batches do not use it, or it is under detach or no_grad"
    assert result["b.weight"].notes == (words,)
    assert result["b.weight"].gate == ("off", "off")
    assert result["b.weight"].verified


def test_a_large_eps_is_noted():
    model = sequence(conv(), nn.BatchNorm2d(6, eps=0.1))
    assert "only up to the eps" in notes_of(model, "net.0.weight", IMAGE)
    model.net[1].eps = 1e-9
    assert notes_of(model, "net.0.weight", IMAGE) == ""


def test_one_batch_is_noted():
    model = sequence(dense(), nn.LayerNorm(6))
    assert any(words.startswith("One batch") for words in audit(model, inputs(1)).notes)


class Block(nn.Module):
    def __init__(self, width, out, bias, norm):
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1, bias=bias)
        self.up = nn.ConvTranspose2d(out, out, 2, 2, bias=bias)
        self.norms = nn.ModuleList([norm(out), norm(out)])

    def forward(self, x):
        return silu(self.norms[1](self.up(silu(self.norms[0](self.conv(x))))))


def unet(bias, norm=lambda width: nn.GroupNorm(2, width)):
    return nn.Sequential(Block(3, 8, bias, norm), Block(8, 4, bias, norm), nn.Conv2d(4, 3, 1))


def test_without_its_bias_a_weight_before_group_norm_is_invariant():
    result = audit(unet(bias=True), inputs(size=(3, 3, 4, 4)))
    remedies = {line.name: line.remedy for line in result.lines if line.remedy}
    layers = ["0.conv", "0.up", "1.conv", "1.up"]
    assert remedies == {f"{layer}.weight": f"bias=False in {layer}" for layer in layers}
    cured = audit(unet(bias=False), inputs(size=(3, 3, 4, 4)))
    assert units_of(cured) == {
        "0.conv.weight": ("row", 0, 4),
        "0.up.weight": ("row", 1, 4),
        "1.conv.weight": ("row", 0, 2),
        "1.up.weight": ("row", 1, 2),
    }
    assert cured.summary.endswith("are scale-invariant by row, 92.9 % by unit of 2 to 4 rows")


def test_the_remedy_before_batch_norm_belongs_to_the_bias():
    result = audit(unet(bias=True, norm=nn.BatchNorm2d), inputs(size=(3, 3, 4, 4)))
    remedies = {line.name: line.remedy for line in result.lines if line.remedy}
    layers = ["0.conv", "0.up", "1.conv", "1.up"]
    assert remedies == {f"{layer}.bias": f"bias=False in {layer}" for layer in layers}


def test_two_biases_in_a_row_need_two_changes():
    layers = (nn.Linear(8, 8), nn.Linear(8, 6), nn.LayerNorm(6))
    result = audit(nn.Sequential(*layers), inputs())
    assert (
        result["0.weight"].remedy == "bias=False in every layer from this one to the normalisation"
    )
    assert "(0.bias and others)" in result["0.weight"].notes[0]
    assert result["1.weight"].remedy == "bias=False in 1"
