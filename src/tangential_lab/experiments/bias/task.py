"""Training on data whose labels can be guessed from a cue that the test set does not have."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tangential_lab.experiments.bias import nine_classes, rebias, tints
from tangential_lab.experiments.bias.hsic import dependence
from tangential_lab.experiments.data import images
from tangential_lab.experiments.data.shares import of_all
from tangential_lab.experiments.options import checked
from tangential_lab.training import Metric, Task, loader_processes

HELD_OUT = 10  # one of so many training digits is kept for tuning
SHOWN = 4000  # test digits of "mini", without bias and with it
PUBLISHED = {
    "sgd": {"lr": 0.1, "weight_decay": 1e-4},
    "adam": {"lr": 1e-3, "weight_decay": 1e-4},
}


@checked
def bias(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    source: Literal["mnist", "imagenet"] = "mnist",
    rho: float = 0.99,
    method: Literal["rebias", "plain"] = "rebias",
    hsic: Literal["unbiased", "published"] = "unbiased",
) -> Task:
    """Classify what a cue should not decide: digits on telling colours, animals by texture.

    ReBias trains a net f beside a net g that sees but the cue, and keeps f's features independent
    of g's: f minimises its cross-entropy plus HSIC(f, g), g its own less HSIC(f, g). One optimizer
    has the weights of both; where a term is one net's, the other's features are detached from it.
    Both step at once, where the original lets g go first. On photographs the kernels' width is the
    median of each batch, where the original's is one of a quarter of the training set, every epoch.

    Args:
        preset: "mini" is 10,000 digits of 10 x 10, and f has kernels of 3, which see as much of
            them; "paper" is the published setting, but that one of ten digits (of 50 photographs)
            is held out for tuning.
        data: Folder of data sets: "mnist" or "MNIST"; "imagenet" and "imagenet-a".
        source: Of the images; "imagenet" (nine classes of it) has no "mini".
        rho: Share of the digits whose background is their class's own colour.
        method: "plain" trains f alone.
        hsic: How HSIC is estimated; see `tangential_lab.experiments.bias.hsic`.

    Raises:
        ValueError: rho is no such share, or there is no such preset.
        DataError: the data are not there, or broken.
    """
    if not tints.UNIFORM <= rho <= 1:
        raise ValueError(f"rho is {rho}, allowed is from {tints.UNIFORM} (no bias) to 1")
    if (preset, source) == ("mini", "imagenet"):
        raise ValueError("source is 'imagenet', allowed with preset 'mini' is 'mnist'")
    digits = _mini if preset == "mini" else _paper
    settings = _photographs(data) if source == "imagenet" else digits(data, rho)
    f, g = settings.pop("nets")
    width = settings.pop("kernel_width")
    rebiased = method == "rebias"
    return Task(
        name="bias",
        model=partial(_pair, f, g) if rebiased else f,
        loss=partial(_rebias_loss, width, hsic) if rebiased else _plain_loss,
        predict=partial(_predict, _first_of_pair if rebiased else _first),
        **settings,
    )


# ---- what is classified


def _mini(data: Path | None, rho: float) -> dict[str, Any]:
    mnist = images.mnist(data)
    count = len(mnist.train)  # 60,000, or where they are embedded 4,000
    seen = images.chosen(mnist.train_labels, min(10_000, count * 4 // 5), min(2_000, count // 5))
    test = np.arange(len(mnist.test))[:SHOWN]
    return _digits(mnist, rho, kernel=3) | {
        "splits": tints.splits(mnist, *seen, test, rho=rho, small=True),
        "epochs": 20,
        "batch_size": 64,
        "evaluations": 5,
        "published": {  # in a thirtieth of the steps
            "sgd": {"lr": 0.1, "weight_decay": 1e-4},
            "adam": {"lr": 1e-2, "weight_decay": 1e-4},
        },
    }


def _paper(data: Path | None, rho: float) -> dict[str, Any]:
    mnist = images.mnist(data, whole=True)
    seen, test = images.every(len(mnist.train), HELD_OUT), np.arange(len(mnist.test))
    return _digits(mnist, rho, kernel=7) | {
        "splits": tints.splits(mnist, *seen, test, rho=rho, small=False),
        "epochs": 80,
        "batch_size": 256,
        "schedule": _quarters,
    }


def _digits(mnist: images.Images, rho: float, *, kernel: int) -> dict[str, Any]:
    return {
        "about": f"MNIST's digits on tinted backgrounds, rho {rho:g}",
        "data": mnist.data,
        "metric": Metric("unbiased accuracy", "%", chance_score=0.1),
        "nets": (partial(rebias.stacked, kernel), partial(rebias.stacked, 1)),
        "kernel_width": 1.0,
        "score": partial(_score, tints.scores),
        "published": PUBLISHED,
    }


def _quarters(done: float) -> float:
    return 0.1 ** int(4 * done)


def _photographs(data: Path | None) -> dict[str, Any]:
    source, splits = nine_classes.splits(data)
    count = len(nine_classes.FOLDERS)
    return {
        "about": "nine classes of ImageNet (224x224), ResNet-18 beside BagNet-18",
        "data": source,
        "metric": Metric("unbiased accuracy", "%", chance_score=1 / count),
        "nets": (partial(rebias.featured_resnet18, count), partial(rebias.bagnet18, count)),
        "kernel_width": "median",
        "epochs": 120,
        "batch_size": 128,
        "splits": splits,
        "score": partial(_score, nine_classes.scores),
        "loader_workers": loader_processes(),
        "published": PUBLISHED,
    }


# ---- how it is learnt and scored


def _pair(f: Any, g: Any) -> nn.Module:
    return rebias.Pair(f(), g())


def _rebias_loss(width: Any, estimate: Any, model: nn.Module, batch: Any) -> Tensor:
    inputs, labels = batch
    (f_logits, f), (g_logits, g) = model(inputs)
    f, g = of_all(f), of_all(g)
    apart = partial(dependence, width=width, estimate=estimate)
    own = [nn.functional.cross_entropy(logits, labels[:, 0]) for logits in (f_logits, g_logits)]
    return own[0] + apart(f, g.detach()) + own[1] - apart(f.detach(), g)


def _plain_loss(model: nn.Module, batch: Any) -> Tensor:
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs)[0], labels[:, 0])


def _first(outputs: Any) -> Tensor:
    return outputs[0]


def _first_of_pair(outputs: Any) -> Tensor:
    return outputs[0][0]


def _predict(logits: Any, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    return logits(model(batch[0])).float().cpu(), batch[1].cpu()


def _score(
    each: Callable[[Tensor, Tensor], dict[str, float]], predictions: list[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    return each(*(torch.cat(parts) for parts in zip(*predictions, strict=True)))
