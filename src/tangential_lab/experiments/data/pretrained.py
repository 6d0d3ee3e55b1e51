"""Weights that torchvision's nets start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torchvision.models import WeightsEnum

from tangential_lab.experiments.data.sources import DataError


def downloaded(weights: WeightsEnum) -> Mapping[str, Any]:
    """The state_dict of these weights.

    Raises:
        DataError: it is neither in torch's cache nor to be downloaded.
    """
    try:
        return weights.get_state_dict(check_hash=True)
    except OSError as error:
        where = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise DataError(f"{where} is missing: {error}. Get it from {weights.url}") from error
