"""Train a small convolutional network on scikit-learn's digits with AdamP, in plain PyTorch."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tangential import AdamP, audit, param_groups

BATCH, EPOCHS, LR = 64, 5, 1e-2


def network() -> nn.Module:
    """Two convolutions before BatchNorm: their weights are scale-invariant, by output channel."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images [n, 1, 8, 8] in [0, 1], and their classes [n]."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16).float().view(-1, 1, 8, 8), torch.tensor(labels)


def main() -> float:
    """Train; return the test accuracy."""
    torch.manual_seed(0)
    images, labels = digits()
    train, test = slice(0, 1437), slice(1437, None)
    model = network()
    found = audit(model, images[train].split(BATCH)[:3])  # which weights are scale-invariant?
    print(found.summary)
    optimizer = AdamP(param_groups(model, found), lr=LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(1437).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        return float((model(images[test]).argmax(-1) == labels[test]).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
