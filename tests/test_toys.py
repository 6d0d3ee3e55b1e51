"""The plane: every digit that METHOD prints, with the library's own optimizers."""

import pytest
import torch

from tangential import SGDP
from tangential.toys import cosine_2d

# momentum, loss before step 50, norm after it, loss before step 499, norm after it
PRINTED = [
    ("gd", 0.0, "3.9999", "1.00", "0.0086", "1.02"),
    ("momentum", 0.9, "1.7578", "1.42", "0.0018", "2.93"),
    ("momentum", 0.95, None, None, "0.0043", "5.67"),
    ("momentum", 0.99, None, None, "0.0153", "27.87"),
    ("projected", 0.9, "1.3491", "1.07", "0.0000", "1.12"),
    ("projected", 0.95, None, None, "0.0000", "1.14"),
    ("projected", 0.99, None, None, "0.0000", "1.15"),
    ("buffer", 0.9, None, None, None, "1.17"),
    ("buffer", 0.95, None, None, None, "1.30"),
    ("buffer", 0.99, None, None, None, "1.81"),
]
BUILD = {
    "gd": lambda m: lambda w: torch.optim.SGD(w, lr=0.01),
    "momentum": lambda m: lambda w: torch.optim.SGD(w, lr=0.01, momentum=m),
    "projected": lambda m: lambda w: SGDP(w, lr=0.01, momentum=m),
    "buffer": lambda m: lambda w: SGDP(w, lr=0.01, momentum=m, project_buffer=True),
}


@pytest.mark.parametrize(("name", "momentum", "loss50", "norm50", "loss499", "norm499"), PRINTED)
def test_plane_to_every_printed_digit(name, momentum, loss50, norm50, loss499, norm499):
    path = cosine_2d(BUILD[name](momentum))
    assert f"{path.norms[500]:.2f}" == norm499
    for t, loss, norm in [(50, loss50, norm50), (499, loss499, norm499)]:
        if loss is not None:
            assert f"{path.losses[t]:.4f}" == loss
            assert f"{path.norms[t + 1]:.2f}" == norm
