"""The net is the published one."""

import pytest
import torch
from rehearsal import count
from tiny_nets import FAR, TINY, WORDS, reader, roused, tokens

from tangential import audit
from tangential_lab.experiments.language.transformer_xl import (
    BASE,
    Sizes,
    TransformerXL,
)


@pytest.fixture(scope="module")
def base():
    with torch.device("meta"):
        return TransformerXL(267_735, BASE)


def test_the_base_model_has_its_published_number_of_weights(base):
    """As its training script prints: 151,107,538, of which 41,066,400 are those of the layers."""
    assert count(base) == 151_107_538
    assert count(base.layers) == 41_066_400


def test_weight_norm_adds_a_length_to_every_row(base):
    with torch.device("meta"):
        normed = TransformerXL(267_735, BASE, weight_norm=True)
    rows = 16 * (410 + 2 * 410 + 410 + 410 + 2100 + 410)
    assert count(normed) == count(base) + rows
    assert not any("parametrizations" in name for name, _ in normed.vocabulary.named_parameters())


def test_weight_norm_begins_as_the_net_without():
    text = tokens(2, 6)
    torch.manual_seed(5)
    plain = TransformerXL(WORDS, TINY)
    torch.manual_seed(5)
    normed = TransformerXL(WORDS, TINY, weight_norm=True)
    memory = torch.zeros(3, 2, 0, 8)
    both = [model(text[:, :-1], text[:, 1:], memory, FAR)[0] for model in (plain, normed)]
    torch.testing.assert_close(*both)


def test_initial_weights_are_as_published():
    model = TransformerXL(2000, Sizes(1, 64, 4, 16, 256))
    for name, param in model.named_parameters():
        norm = name.endswith("norm.weight")
        if name.endswith(("norm.bias", "inner.bias", "outer.bias", "vocabulary.bias")):
            assert not param.any()
        else:
            assert param.mean().item() == pytest.approx(float(norm), abs=0.01)
            assert param.std().item() == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.slow
def test_the_audit_finds_the_directions_of_weight_norm_and_nothing_else(weight_norm):
    model = roused(reader(dropout=0.1, weight_norm=weight_norm))  # queries have effect
    batches = [(tokens(4, 5), tokens(4, 5), True), (tokens(4, 5), tokens(4, 5), False)]
    found = audit(model, batches, loss=lambda model, batch: model(*batch), verify=True)
    directions = {name for name, _ in model.named_parameters() if name.endswith("original1")}
    assert len(directions) == 3 * 6 * weight_norm
    assert set(found.names("row")) == directions
    assert not found.names("weight")
    assert all(line.verified for line in found.lines)
