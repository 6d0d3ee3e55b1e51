"""Train with Hugging Face Accelerate: a projected NAdam, on any devices that `accelerate` finds."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential import project

EPOCHS, LR = 5, 3e-3


def network() -> nn.Module:
    """Layers without bias before LayerNorm: each weight is scale-invariant as a whole."""
    return nn.Sequential(
        *(nn.Linear(64, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        *(nn.Linear(128, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def main() -> float:
    """Train; return the test accuracy."""
    torch.manual_seed(0)
    images, labels = (torch.tensor(x) for x in load_digits(return_X_y=True))
    images = (images / 16).float()
    accelerator, model = Accelerator(), network()
    # project before prepare, whose wrapper runs no hooks
    optimizer = project(torch.optim.NAdam(model.parameters(), lr=LR), weight_decay=1e-2)
    loader = DataLoader(TensorDataset(images[:1437], labels[:1437]), 64, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(EPOCHS):
        for x, y in loader:
            accelerator.backward(nn.functional.cross_entropy(model(x), y))
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        logits = model(images[1437:].to(accelerator.device)).cpu()
    return float((logits.argmax(-1) == labels[1437:]).float().mean())


if __name__ == "__main__":
    accuracy = main()
    Accelerator().print(f"test accuracy {accuracy:.1%}")  # once, not in every process
