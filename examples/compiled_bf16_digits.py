"""Train bfloat16 weights with torch.compile: Kahan summation keeps what rounding would lose."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tangential import AdamP

BATCH, EPOCHS, LR = 64, 8, 3e-3


def network() -> nn.Module:
    """Layers without bias before RMSNorm: each weight is scale-invariant as a whole."""
    return nn.Sequential(
        *(nn.Linear(64, 128, bias=False), nn.RMSNorm(128), nn.ReLU()),
        *(nn.Linear(128, 128, bias=False), nn.RMSNorm(128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def main() -> float:
    """Train; return the test accuracy."""
    torch.manual_seed(0)
    images, labels = (torch.tensor(x) for x in load_digits(return_X_y=True))
    images = (images / 16).bfloat16()
    model = network().bfloat16()
    optimizer = AdamP(
        model.parameters(),
        lr=LR,
        weight_decay=1e-2,
        low_precision="kahan",  # small steps add up, in one more 16-bit buffer
        state_dtype=torch.float32,
    )

    @torch.compile
    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x).float(), y)

    for _ in range(EPOCHS):
        for batch in torch.randperm(1408).split(BATCH):  # batches of one size: one compilation
            optimizer.zero_grad()
            loss_of(images[batch], labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(images[1437:]).argmax(-1) == labels[1437:]).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
