"""The memory of training and of evaluation."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from tiny_nets import FAR, WORDS, reader, tokens

from tangential import AdamP
from tangential_lab.experiments.language.streams import Segments, Streams
from tangential_lab.experiments.language.transformer_xl import (
    Reach,
)


def test_training_remembers_in_a_buffer_from_segment_to_segment():
    model, text = reader().train(), tokens(2, 16)
    for start in (0, 5, 10):
        model(text[:, start : start + 5], text[:, start + 1 : start + 6], start == 0)
        assert model.memory.shape == (3, 2, 4, 8)
    model(text[:, 10:15], text[:, 11:16], True)
    _, alone = model.net.read(text[:, 10:15], torch.zeros(3, 2, 0, 8), Reach(4))
    assert torch.equal(model.memory, alone)


def test_training_is_that_on_one_long_segment():
    """The second of two segments has the same loss as within the whole text."""
    model, text = reader().double().train(), tokens(2, 9)
    model(text[:, :4], text[:, 1:5], True)
    second = model(text[:, 4:8], text[:, 5:9], False)
    memory = torch.zeros(3, 2, 0, 8, dtype=torch.float64)
    whole, _ = model.net(text[:, :8], text[:, 1:9], memory, FAR)
    torch.testing.assert_close(second, whole.view(2, 8)[:, 4:].mean())
    forgotten = model(text[:, 4:8], text[:, 5:9], True)
    assert abs(forgotten - second) > 1e-9


def test_evaluation_reads_whole_streams_and_leaves_the_memory_of_training():
    model, text = reader().double(), tokens(3, 12)
    model.train()(text[:2, :5], text[:2, 1:6], True)
    kept = model.memory.clone()
    found = model.eval()(text[:, :-1], text[:, 1:])
    assert torch.equal(model.memory, kept)
    memory = torch.zeros(3, 3, 0, 8, dtype=torch.float64)
    whole, _ = model.net(text[:, :-1], text[:, 1:], memory, Reach(6, same_length=True))
    torch.testing.assert_close(found, whole.view(3, 11).sum(1))


def test_the_number_of_streams_may_change_only_at_the_first_segment():
    model = reader().train()
    model(tokens(2, 5), tokens(2, 5), True)
    with pytest.raises(ValueError, match=r"tokens must have the 2 streams of .*, got 3 streams"):
        model(tokens(3, 5), tokens(3, 5), False)
    model(tokens(3, 5), tokens(3, 5), True)
    assert model.memory.shape[1] == 3


def test_a_memory_of_any_size_is_loaded():
    model, other = reader().train(), reader().train()
    model(tokens(2, 5), tokens(2, 5), True)
    for target in (other, deepcopy(other)):
        target.load_state_dict(model.state_dict())
        assert torch.equal(target.memory, model.memory)
    other(tokens(2, 5), tokens(2, 5), False)
    assert not torch.equal(other.memory, model.memory)


def steps(model, optimizer, segments, numbers):
    for number in numbers:
        batch = segments.__getitems__([2 * number, 2 * number + 1])
        optimizer.zero_grad()
        model(*batch).backward()
        optimizer.step()


def test_a_resumed_training_is_an_uninterrupted_one():
    segments = Segments(Streams(np.arange(100, dtype=np.int32) % WORDS, 2), 5)

    def fresh():
        torch.manual_seed(3)
        model = reader(dropout=0.1, weight_norm=True).train()
        return model, AdamP(model.parameters(), lr=1e-2)

    whole, optimizer = fresh()
    steps(whole, optimizer, segments, range(6))
    first, optimizer = fresh()
    steps(first, optimizer, segments, range(3))
    saved, chance = deepcopy((first.state_dict(), optimizer.state_dict())), torch.get_rng_state()
    second, optimizer = fresh()
    second.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    torch.set_rng_state(chance)
    steps(second, optimizer, segments, range(3, 6))
    ends = [*zip(whole.state_dict().items(), second.state_dict().values(), strict=True)]
    assert [name for (name, value), other in ends if not torch.equal(value, other)] == []
