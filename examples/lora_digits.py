"""Adapt a trained network with LoRA (PEFT): the audit shows that its factors are not invariant."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tangential import AdamP, audit

BATCH, EPOCHS = 64, 5


def network() -> nn.Sequential:
    """Layers without bias before LayerNorm: each weight is scale-invariant as a whole."""
    return nn.Sequential(
        *(nn.Linear(64, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        *(nn.Linear(128, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def train(model: nn.Module, optimizer: AdamP, images: Tensor, labels: Tensor) -> float:
    """Train; return the test accuracy."""
    for _ in range(EPOCHS):
        for batch in torch.randperm(1437).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(images[1437:]).argmax(-1) == labels[1437:]).float().mean())


def main() -> float:
    """Train on digits, then adapt to mirrored digits; return the accuracy on those."""
    torch.manual_seed(0)
    images, labels = (torch.tensor(x) for x in load_digits(return_X_y=True))
    images = (images / 16).float()
    net: Any = network()
    train(net, AdamP(net.parameters(), lr=3e-3, weight_decay=1e-2), images, labels)
    mirrored = images.view(-1, 8, 8).flip(2).reshape(-1, 64)
    model = get_peft_model(net, LoraConfig(r=16, target_modules=["0", "3"]))
    found = audit(model, list(mirrored[:192].split(64)))
    adapters = [line for line in found.lines if "lora" in line.name]
    print({line.kind for line in adapters})  # W + BA does not scale with A or B: "variant"
    trained = [param for param in model.parameters() if param.requires_grad]
    # "off" is AdamW: the gate could only fire by chance
    optimizer = AdamP(trained, lr=1e-2, weight_decay=1e-2, projection="off")
    return train(model, optimizer, mirrored, labels)


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
