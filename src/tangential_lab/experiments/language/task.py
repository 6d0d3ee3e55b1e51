"""Language: Transformer-XL predicts the next character or word."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tangential_lab.experiments.data import texts
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.data.texts import Text
from tangential_lab.experiments.language.reader import Reader
from tangential_lab.experiments.language.streams import Segments, Streams
from tangential_lab.experiments.language.transformer_xl import BASE, Reach, Sizes, TransformerXL
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import LrAndDecay, untuned
from tangential_lab.training import Metric, Task, cosine_schedule

PAPER_STEPS = 200_000


class TextSettings(NamedTuple):
    """How a text is learned, and read in evaluation; the defaults are those of the small nets."""

    sizes: Sizes
    epochs: float | None  # None: as many as PAPER_STEPS need
    evaluations: int = 10
    streams: int = 16  # read in parallel: the batch
    length: int = 64  # of a segment
    reach: Reach = Reach(64)
    read_streams: int = 16
    read_length: int = 64
    read: Reach = Reach(192, same_length=True)
    adam: LrAndDecay = (2e-3, 1e-2)  # learning rate and weight decay of its family without tuning
    # share of the training in which the learning rate rises; a small net without it ends at the
    # loss of the tokens' frequencies
    warm_up: float = 0.1


SGD = (0.5, 1e-5)  # our choice: no paper trains this model with SGD
SETTINGS = {
    "character": TextSettings(Sizes(4, 128, 4, 32, 512, dropout=0.0), epochs=4),
    "word": TextSettings(
        Sizes(3, 128, 4, 32, 512, cutoffs=(2_000, 10_000), dropout=0.0),
        epochs=1,
        evaluations=2,  # each is costly: the test split is an eighth of the training split
    ),
    "paper": TextSettings(
        BASE,
        epochs=None,
        streams=60,
        length=150,
        reach=Reach(150),
        read_streams=10,
        read=Reach(640, same_length=True, clamp=400),
        adam=(2.5e-4, 1e-2),
        warm_up=0.0,
    ),
}


@checked
def language(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    text: Literal["auto", "tinyshakespeare", "wikitext2", "pydoc"] = "auto",
    weight_norm: bool = False,
) -> Task:
    """Predict the next character or word of a text with Transformer-XL.

    Differences from the paper: the weight decay of Adam and its family, 1e-2, the settings of SGD,
    and which layers have weight norm are our choice, because the paper does not say.

    Args:
        preset: "mini" is a net of 3 or 4 layers of width 128; "paper" is the base model on
            WikiText-103, evaluated as published, with 640 positions of memory.
        data: Folder of all data sets: "tinyshakespeare", "wikitext-2", "wikitext-103".
        text: Text of "mini"; "auto" is tinyshakespeare if the data contain it, else pydoc, the
            topics of Python's help. Both are read by characters, wikitext2 by words.
        weight_norm: Split the rows of linear layers into direction and length, which makes the
            directions scale-invariant; without it almost no weight is.

    Raises:
        ValueError: text is set with "paper", or the data are missing, broken or too short.
    """
    if preset == "paper" and text != "auto":
        raise ValueError(f"text must be 'auto' with preset 'paper', got {text!r}")
    source = texts.wikitext103(data) if preset == "paper" else texts.MINI[text](data)
    setting = SETTINGS["paper" if preset == "paper" else source.unit]
    splits = {name: _split(source, name, setting) for name in source.splits}
    words, normed = len(source.vocabulary), " with weight norm" if weight_norm else ""
    sizes = setting.sizes  # without the cutoffs that a small vocabulary does not reach
    sizes = sizes._replace(cutoffs=tuple(cut for cut in sizes.cutoffs if cut < words))
    about = f"{source.name} ({words:,} {source.unit}s), Transformer-XL"

    def model() -> Reader:
        net = TransformerXL(words, sizes, weight_norm=weight_norm)
        return Reader(net, setting.reach, setting.read, setting.read_length)

    return Task(
        name="language",
        about=f"{about} of {sizes.layers} x {sizes.width}{normed}",
        data=source.data,
        metric=_metric(source.unit, words),
        epochs=setting.epochs or PAPER_STEPS * setting.streams / len(splits["train"]),
        batch_size=setting.streams,
        splits=splits,
        model=model,
        loss=lambda model, batch: model(*batch),
        predict=_predict,
        score=_score,
        published=untuned(sgd=SGD, adam=setting.adam),
        ends=(),  # they are one table, which is no layer
        schedule=partial(cosine_schedule, warm_up=setting.warm_up),
        batch_order=_in_turn,
        evaluation_batch_size=setting.read_streams,
        evaluations=setting.evaluations,
        max_grad_norm=0.25,
    )


def _split(source: Text, name: str, setting: TextSettings) -> Streams | Segments:
    tokens = source.splits[name]
    try:
        if name != "train":
            return Streams(tokens, setting.read_streams)
        return Segments(Streams(tokens, setting.streams), setting.length)
    except ValueError as error:
        raise DataError(f"{source.data.about}, split {name!r}: {error}") from error


def _metric(unit: str, words: int) -> Metric:
    """The chance score is that of a model for which all words are equally likely."""
    if unit == "character":
        return Metric(
            "loss", "nats", chance_score=math.log(words), higher_is_better=False, margin=0.01
        )
    return Metric("perplexity", "", chance_score=float(words), higher_is_better=False, margin=0.5)


def _in_turn(size: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Segment after segment of all streams, the only order that a memory allows."""
    yield from torch.arange(size).split(batch_size)


def _predict(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[float, int]:
    return model(*batch).sum().item(), batch[1].numel()


def _score(predictions: list[tuple[float, int]]) -> dict[str, float]:
    nats, counts = map(sum, zip(*predictions, strict=True))
    loss = torch.tensor(nats / counts, dtype=torch.float64)
    return {"loss": loss.item(), "perplexity": loss.exp().item()}  # may be infinite
