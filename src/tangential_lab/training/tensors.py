"""Splits that lie in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorSplit:
    """Inputs [n, ...] and labels [n, ...]; batches are pairs, inputs changed by `augment`."""

    inputs: Tensor
    labels: Tensor
    augment: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        """Number of samples, not of fields."""
        return self.inputs.shape[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The batch of these samples."""
        chosen = torch.tensor(indices)
        inputs = self.inputs[chosen]
        return self.augment(inputs) if self.augment else inputs, self.labels[chosen]
