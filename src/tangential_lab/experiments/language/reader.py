"""A language model with its memory: segments in training, whole streams in evaluation."""

from typing import Any

import torch
from torch import Tensor, nn

from tangential_lab.experiments.language.transformer_xl import Reach, TransformerXL


class Reader(nn.Module):
    """A Transformer-XL that remembers.

    In training a call is one segment of every stream, and what it leaves for the next lies in the
    buffer `memory` [layers, streams, positions, width]: part of a checkpoint, and as large as what
    has been read, so that loading takes the size that was saved. In evaluation a call is whole
    streams, read with a memory of their own; that of training waits.

    Args:
        net: The model.
        reach: How far it looks back in training.
        read: How far in evaluation.
        length: Of an evaluation's segments.
    """

    memory: Tensor

    def __init__(self, net: TransformerXL, reach: Reach, read: Reach, length: int) -> None:
        super().__init__()
        self.net, self.reach, self.read, self.length = net, reach, read, length
        layers, width = len(net.layers), net.vocabulary.weight.shape[1]
        self.register_buffer("memory", torch.empty(layers, 0, 0, width))
        self.register_load_state_dict_pre_hook(_make_room)

    def forward(self, tokens: Tensor, targets: Tensor, first: bool = True) -> Tensor:
        """The mean nats of a segment; in evaluation the sum over each stream [b].

        Args:
            tokens: Of the segment, or in evaluation of the streams [b, t].
            targets: The next token at each position [b, t].
            first: Whether the segment begins its streams, and has no memory.

        Raises:
            ValueError: the memory is of another number of streams.
        """
        nothing = self.memory.new_empty(len(self.memory), len(tokens), 0, self.memory.shape[3])
        if not self.training:
            return self._whole(tokens, targets, nothing)
        memory = nothing if first or not self.memory.numel() else self.memory
        if memory.shape[1] != len(tokens):
            raise ValueError(
                f"tokens are of {len(tokens)} streams, allowed are the {memory.shape[1]} of the "
                "segment before, or any where first is True"
            )
        nats, self.memory = self.net(tokens, targets, memory, self.reach)
        return nats.mean()

    def _whole(self, tokens: Tensor, targets: Tensor, memory: Tensor) -> Tensor:
        sums = []
        for parts in zip(tokens.split(self.length, 1), targets.split(self.length, 1), strict=True):
            nats, memory = self.net(*parts, memory, self.read)
            sums.append(nats.view(len(tokens), -1).sum(1))
        return torch.stack(sums).sum(0)


def _make_room(reader: Reader, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if (saved := state.get(f"{prefix}memory")) is not None:
        reader.memory = reader.memory.new_empty(saved.shape)
