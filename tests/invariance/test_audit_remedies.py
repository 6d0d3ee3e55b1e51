"""What an audit says to do: a bias before a normalisation, units of rows."""

import torch
from test_audit import built, found
from test_audit_models import inputs
from torch import nn
from torch.nn.functional import silu

from tangential import audit


class Block(nn.Module):
    def __init__(self, width, out, bias, norm):
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1, bias=bias)
        self.up = nn.ConvTranspose2d(out, out, 2, 2, bias=bias)
        self.norms = nn.ModuleList([norm(out), norm(out)])

    def forward(self, x):
        return silu(self.norms[1](self.up(silu(self.norms[0](self.conv(x))))))


def unet(bias, norm=lambda width: nn.GroupNorm(2, width)):
    return nn.Sequential(Block(3, 8, bias, norm), Block(8, 4, bias, norm), nn.Conv2d(4, 3, 1))


class TestRemedies:
    """A bias before a normalisation: each weight has its remedy, and the remedy helps."""

    def images(self):
        return [torch.randn(3, 3, 4, 4) for _ in range(3)]

    def test_group_norm(self):
        result = audit(unet(bias=True), self.images())
        remedies = {line.name: line.remedy for line in result.lines if line.remedy}
        layers = ["0.conv", "0.up", "1.conv", "1.up"]
        assert remedies == {f"{layer}.weight": f"bias=False in {layer}" for layer in layers}
        cured = audit(unet(bias=False), self.images())
        assert found(cured) == {
            "0.conv.weight": ("row", 0, 4),
            "0.up.weight": ("row", 1, 4),
            "1.conv.weight": ("row", 0, 2),
            "1.up.weight": ("row", 1, 2),
        }
        assert cured.summary.endswith("are scale-invariant by row, 92.9 % by unit of 2 to 4 rows")

    def test_batch_norm(self):
        result = audit(unet(bias=True, norm=nn.BatchNorm2d), self.images())
        remedies = {line.name: line.remedy for line in result.lines if line.remedy}
        layers = ["0.conv", "0.up", "1.conv", "1.up"]
        assert remedies == {f"{layer}.bias": f"bias=False in {layer}" for layer in layers}

    def test_two_biases_in_a_row(self):
        layers = (nn.Linear(8, 8), nn.Linear(8, 6), nn.LayerNorm(6))
        result = audit(nn.Sequential(*layers), inputs())
        assert (
            result["0.weight"].remedy
            == "bias=False in every layer from this one to the normalisation"
        )
        assert "(0.bias and others)" in result["0.weight"].notes[0]
        assert result["1.weight"].remedy == "bias=False in 1"

    def test_units_of_heads_in_the_summary(self):
        model, batches, *_ = built("heads")
        share = 100 * 64 / sum(param.numel() for param in model.parameters())
        words = f"0.0 % of the weights are scale-invariant by row, {share:.1f} % by unit of 4 rows"
        assert audit(model, batches).summary == words
