"""A language model with memory: reads segments in training, whole streams in evaluation."""

from typing import Any

import torch
from torch import Tensor, nn

from tangential_lab.experiments.language.transformer_xl import Reach, TransformerXL


class Reader(nn.Module):
    """A Transformer-XL with its memory.

    In training a call gets one segment of every stream. The states that the next segment needs are
    in the buffer `memory` [layers, streams, positions, width], which is a part of checkpoints; its
    size grows at the start of a stream, so loading a checkpoint adopts the saved size. In
    evaluation a call gets whole streams; the memory of training is neither used nor changed.

    Args:
        net: The model.
        reach: How far it looks back in training.
        read: How far it looks back in evaluation.
        length: Positions of a segment in evaluation.
    """

    memory: Tensor

    def __init__(self, net: TransformerXL, reach: Reach, read: Reach, length: int) -> None:
        super().__init__()
        self.net, self.reach, self.read, self.length = net, reach, read, length
        layers, width = len(net.layers), net.vocabulary.weight.shape[1]
        self.register_buffer("memory", torch.empty(layers, 0, 0, width))
        self.register_load_state_dict_pre_hook(_adopt_size)

    def forward(self, tokens: Tensor, targets: Tensor, first: bool = True) -> Tensor:
        """The mean loss of a segment in nats; in evaluation the sum over each stream [b].

        Args:
            tokens: Tokens of the segment, or in evaluation of whole streams [b, t].
            targets: The next token at each position [b, t].
            first: Whether this is the first segment of its streams; only then their number may
                change.
        """
        empty = self.memory.new_empty(len(self.memory), len(tokens), 0, self.memory.shape[3])
        if not self.training:
            return self._whole(tokens, targets, empty)
        memory = empty if first or not self.memory.numel() else self.memory
        if memory.shape[1] != len(tokens):
            raise ValueError(
                f"tokens must have the {memory.shape[1]} streams of the segment before, unless "
                f"first is True, got {len(tokens)} streams"
            )
        nats, self.memory = self.net(tokens, targets, memory, self.reach)
        return nats.mean()

    def _whole(self, tokens: Tensor, targets: Tensor, memory: Tensor) -> Tensor:
        sums = []
        for parts in zip(tokens.split(self.length, 1), targets.split(self.length, 1), strict=True):
            nats, memory = self.net(*parts, memory, self.read)
            sums.append(nats.view(len(tokens), -1).sum(1))
        return torch.stack(sums).sum(0)


def _adopt_size(reader: Reader, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if (saved := state.get(f"{prefix}memory")) is not None:
        reader.memory = reader.memory.new_empty(saved.shape)
