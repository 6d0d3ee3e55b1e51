"""Train a model of timm, with the optimizer from timm's factory."""

import timm
import torch
from sklearn.datasets import load_digits
from timm.optim import create_optimizer_v2
from torch import nn

from tangential.integrations.timm import register

BATCH, EPOCHS, LR = 64, 4, 3e-3


def main() -> float:
    """Train; return the test accuracy."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16).float().view(-1, 1, 8, 8)
    images = nn.functional.interpolate(images, size=32, mode="bilinear")
    labels = torch.tensor(labels)
    model = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    register()  # before timm's factory is asked: tangential-adamp, tangential-sgdp
    optimizer = create_optimizer_v2(model, "tangential-adamp", lr=LR, weight_decay=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(1437).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return float((model(images[1437:]).argmax(-1) == labels[1437:]).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
