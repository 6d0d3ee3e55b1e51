"""Attention equals the paper's; a memory has the effect of a longer segment."""

import math

import pytest
import torch
from tiny_nets import FAR, TINY, WORDS, logits, net, nothing, tokens
from torch.func import functional_call

from tangential_lab.experiments.language import transformer_xl
from tangential_lab.experiments.language.transformer_xl import (
    Reach,
)


def test_the_relative_shift_equals_a_loop():
    """Column j of the input is distance k - j."""
    for queries, keys in [(1, 1), (1, 4), (4, 4), (3, 7), (5, 6)]:
        by_distance = torch.randn(2, 3, queries, keys + 1)
        moved = transformer_xl.shifted(by_distance)
        assert moved.shape == (2, 3, queries, keys)
        for i in range(queries):
            for j in range(keys - queries + i + 1):
                distance = keys - queries + i - j
                assert torch.equal(moved[..., i, j], by_distance[..., i, keys - distance])


def test_a_layer_attends_as_the_paper_writes_it():
    """Equation 8 of the paper, pair by pair: (W_q x + u).(W_k x) + (W_q x + v).(W_r R)."""
    model = net()
    layer, x, past = model.layers[0], torch.randn(8).double(), torch.randn(2, 8).double()
    x = torch.randn(3, 8).double()
    u, v = model.content_bias, model.position_bias
    waves = transformer_xl.sinusoids(5, x)
    hidden = transformer_xl.unseen(3, 5, FAR, x.device)
    found = layer(x[None], past[None], waves, u, v, hidden)[0]
    everything = torch.cat([past, x])
    outs = []
    for i in range(3):
        heads = []
        for h in range(2):
            own = slice(3 * h, 3 * h + 3)
            query = layer.query.weight[own] @ x[i]
            keys, values = (
                everything @ layer.key_value.weight[start:][own].T for start in (0, 2 * 3)
            )
            scores = []
            for j in range(2 + i + 1):
                angles = [(2 + i - j) / 10_000 ** (n / 8) for n in range(0, 8, 2)]
                wave = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)]).double()
                place = layer.position.weight[own] @ wave
                scores.append(((query + u[h]) @ keys[j] + (query + v[h]) @ place) / math.sqrt(3))
            weights = torch.stack(scores).softmax(0)
            heads.append(weights @ values[: len(scores)])
        attended = layer.attention_norm(x[i] + layer.out.weight @ torch.cat(heads))
        outs.append(layer.feed_norm(attended + layer.outer(layer.inner(attended).relu())))
    torch.testing.assert_close(found, torch.stack(outs))


def test_distances_differ_up_to_the_clamp():
    waves = transformer_xl.sinusoids(5, torch.empty(6), clamp=3)
    assert waves.shape == (6, 6)
    assert torch.equal(waves[0], waves[2])  # distances 5, 4 and 3
    assert not torch.equal(waves[2], waves[3])
    assert torch.equal(waves[-1], torch.tensor([0.0, 0, 0, 1, 1, 1]))


def test_the_mask_of_the_same_length_by_hand():
    """Four keys, of which the first two are memory; each query sees three of them."""
    later = transformer_xl.unseen(2, 4, Reach(3), torch.device("cpu"))
    assert later.tolist() == [[False, False, False, True], [False, False, False, False]]
    window = transformer_xl.unseen(2, 4, Reach(3, same_length=True), torch.device("cpu"))
    assert window.tolist() == [[False, False, False, True], [True, False, False, False]]


@pytest.mark.parametrize("cuts", [[4, 6], [1, 2, 3, 4], [9, 1]])
def test_a_memory_gives_the_logits_of_one_long_segment(cuts):
    model, text = net(), tokens(2, 10)
    whole = logits(model, [text], FAR)
    assert (logits(model, text.split(cuts, 1), FAR) - whole).abs().max() < 1e-12
    forgetful = logits(model, text.split(cuts, 1), Reach(0))
    assert (forgetful[:, : cuts[0]] - whole[:, : cuts[0]]).abs().max() < 1e-12
    assert (forgetful[:, cuts[0] :] - whole[:, cuts[0] :]).abs().max() > 1e-3


@pytest.mark.parametrize("clamp", [None, 2])
def test_with_the_same_length_a_short_memory_is_enough(clamp):
    """If every position sees four, later segments need a memory of four."""
    model, text, reach = net(), tokens(2, 12), Reach(4, same_length=True, clamp=clamp)
    whole = logits(model, [text], reach)
    for cuts in (3, 4, 5, 1):
        assert (logits(model, text.split(cuts, 1), reach) - whole).abs().max() < 1e-12
    assert (logits(model, [text], FAR) - whole).abs().max() > 1e-3


def test_the_memory_is_the_last_inputs_of_every_layer_without_history():
    model, text = net(), tokens(2, 7)
    _, long = model.read(text, nothing(model, 2), FAR)
    _, short = model.read(text, nothing(model, 2), Reach(3))
    assert long.shape == (3, 2, 7, 8)
    assert torch.equal(short, long[:, :, 4:])
    assert torch.equal(long[0], model.vocabulary.embed(text))
    assert not long.requires_grad


def test_later_tokens_do_not_change_earlier_outputs():
    model, text = net(), tokens(1, 9)
    before = logits(model, text.split(3, 1), FAR)
    for place in range(9):
        other = text.clone()
        other[0, place] = (other[0, place] + 1) % WORDS
        after = logits(model, other.split(3, 1), FAR)
        assert torch.equal(after[:, :place], before[:, :place])
        assert (after[:, place:] != before[:, place:]).any(-1).all()


@pytest.mark.slow
def test_gradients_are_those_of_differences():
    model, text = net(TINY._replace(layers=1, cutoffs=(4, 7))), tokens(1, 5)
    memory = torch.randn(1, 1, 2, 8).double()
    names = ["content_bias", "position_bias", "layers.0.position.weight", "vocabulary.weight"]
    weights = [dict(model.named_parameters())[name].detach().clone() for name in names]

    def nats(*changed):
        replaced = dict(zip(names, changed, strict=True))
        inputs = (text[:, :-1], text[:, 1:], memory, FAR)
        return functional_call(model, replaced, inputs)[0].sum()

    assert torch.autograd.gradcheck(nats, [weight.requires_grad_() for weight in weights])
