"""Streams and segments."""

import numpy as np
import pytest
import torch

from tangential_lab.experiments.language import task as room
from tangential_lab.experiments.language.streams import Segments, Streams
from tangential_lab.training import ProcessShare


def test_streams_are_parts_of_one_length_and_targets_the_next_tokens():
    inputs, targets = Streams(np.arange(12), 3).__getitems__([0, 2])
    assert inputs.tolist() == [[0, 1, 2], [6, 7, 8]]
    assert targets.tolist() == [[1, 2, 3], [7, 8, 9]]


def test_segments_follow_one_another_in_every_stream():
    segments = Segments(Streams(np.arange(22), 3), 3)  # streams of 7: 2 segments, 1 token left
    assert len(segments) == 6
    batches = [segments.__getitems__([3 * i, 3 * i + 1, 3 * i + 2]) for i in range(2)]
    assert batches[0][0].tolist() == [[0, 1, 2], [7, 8, 9], [14, 15, 16]]
    assert batches[1][0].tolist() == [[3, 4, 5], [10, 11, 12], [17, 18, 19]]
    assert batches[1][1].tolist() == [[4, 5, 6], [11, 12, 13], [18, 19, 20]]
    assert [batch[2] for batch in batches] == [True, False]


def test_a_process_has_the_same_streams_in_every_batch():
    segments = Segments(Streams(np.arange(50), 4), 3)
    order = room._in_turn(len(segments), 4, torch.Generator())
    for number, indices in enumerate(order):
        for rank in range(2):
            inputs, _, first = segments.__getitems__(ProcessShare(rank, 2).of(indices.tolist()))
            starts = [12 * stream + 3 * number for stream in (2 * rank, 2 * rank + 1)]
            assert inputs[:, 0].tolist() == starts
            assert first is (number == 0)
    assert number == 3


def test_a_batch_of_several_segments_is_refused():
    with pytest.raises(ValueError, match=r"indices must be of one segment, got segments \[0, 1\]"):
        Segments(Streams(np.arange(22), 3), 3).__getitems__([2, 3])


def test_streams_shorter_than_a_segment_are_refused():
    assert len(Segments(Streams(np.arange(10), 3), 3)) == 3
    with pytest.raises(ValueError, match=r"segments of 3 must have at least 10 tokens, got 9"):
        Segments(Streams(np.arange(9), 3), 3)


def test_a_text_shorter_than_its_streams_is_refused():
    with pytest.raises(ValueError, match="3 streams must have at least 4 tokens, got 3"):
        Streams(np.arange(3), 3)
