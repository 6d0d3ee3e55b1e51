"""The adaptive softmax, and the table of words."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tangential_lab.experiments.language.transformer_xl import (
    Vocabulary,
)


def vocabulary(words, width, cutoffs):
    made = Vocabulary(words, width, cutoffs).double()
    for param in made.parameters():
        nn.init.normal_(param)
    return made


def probabilities(table, state):
    """Probabilities of all words after a state, by hand: p(cluster) p(word | cluster)."""
    frequent = table.sizes[0]
    scores = table.weight @ state + table.bias
    clusters = table.cluster_weight @ state + table.cluster_bias
    head = torch.cat([scores[:frequent], clusters]).softmax(0)
    bounds = [*table.starts, len(table.weight)]
    return torch.cat(
        [head[:frequent]]
        + [
            head[frequent + number] * scores[low:high].softmax(0)
            for number, (low, high) in enumerate(pairwise(bounds[1:]))
        ]
    )


def test_the_adaptive_softmax_is_a_distribution_over_all_words():
    table, state = vocabulary(10, 4, (3, 5)), torch.randn(4).double()
    by_hand = probabilities(table, state)
    found = table.nats(state.expand(10, 4), torch.arange(10))
    torch.testing.assert_close(found, -by_hand.log())
    assert found.neg().exp().sum().item() == pytest.approx(1)


def test_it_is_that_of_torch_where_torch_has_it():
    """Without biases in the tails, whose projections are the identity."""
    table = vocabulary(10, 4, (3, 5))
    theirs = nn.AdaptiveLogSoftmaxWithLoss(4, 10, [3, 5], div_value=1, head_bias=True).double()
    with torch.no_grad():
        table.bias[3:] = 0
        theirs.head.weight.copy_(torch.cat([table.weight[:3], table.cluster_weight]))
        theirs.head.bias.copy_(torch.cat([table.bias[:3], table.cluster_bias]))
        for tail, rows in zip(theirs.tail, (table.weight[3:5], table.weight[5:]), strict=True):
            tail[0].weight.copy_(torch.eye(4))
            tail[1].weight.copy_(rows)
    states, targets = torch.randn(20, 4).double(), torch.randint(10, (20,))
    torch.testing.assert_close(table.nats(states, targets), -theirs(states, targets).output)


def test_without_clusters_it_is_the_full_softmax():
    table, states, targets = vocabulary(10, 4, ()), torch.randn(6, 4).double(), torch.arange(6)
    full = (states @ table.weight.T + table.bias).log_softmax(1)
    torch.testing.assert_close(table.nats(states, targets), -full[range(6), targets])


def test_clusters_scored_by_their_words_are_the_full_softmax():
    """A cluster as likely as its words together: its score is their scores' logsumexp."""
    table, state = vocabulary(10, 4, (3, 5)), torch.randn(4).double()
    scores = table.weight @ state + table.bias
    with torch.no_grad():
        table.cluster_weight.zero_()
        table.cluster_bias.copy_(torch.stack([scores[3:5].logsumexp(0), scores[5:].logsumexp(0)]))
    found = table.nats(state.expand(10, 4), torch.arange(10))
    torch.testing.assert_close(found, -scores.log_softmax(0))


def test_an_absent_cluster_has_gradients_of_zero():
    table = vocabulary(10, 4, (3, 5))
    table.nats(torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 3, 4, 4])).sum().backward()
    assert all(param.grad is not None for param in table.parameters())
    assert not table.weight.grad[5:].any()
    assert table.weight.grad[:5].any(1).all()


@pytest.mark.parametrize("cutoffs", [(5, 3), (0,), (10,), (3, 3)])
def test_cutoffs_that_do_not_rise_are_refused(cutoffs):
    with pytest.raises(ValueError, match=r"cutoffs must be ascending, between 0 and 10 .*, got"):
        Vocabulary(10, 4, cutoffs)


def test_words_that_are_read_are_rows_of_the_same_table():
    table = vocabulary(10, 4, (3, 5))
    assert torch.equal(table.embed(torch.tensor([[7, 2]])), 2 * table.weight[[7, 2]][None])
