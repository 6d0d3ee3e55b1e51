"""Pretraining: a small GPT with normalised queries and keys predicts the next token."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from tangential_lab.experiments.data import texts
from tangential_lab.experiments.data.sources import DataError, described
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.pretraining.gpt import GPT, GPT2, SMALL, Sizes
from tangential_lab.experiments.pretraining.windows import GPT2_TOKENS, Windows, fineweb
from tangential_lab.experiments.published import untuned
from tangential_lab.training import (
    DataSource,
    Metric,
    ParamGroups,
    Split,
    Task,
    cosine_schedule,
    single_group,
)

MINI_STEPS, MINI_BATCH = 600, 16
PAPER_STEPS, PAPER_BATCH = 5_000, 512  # windows of 1,024 tokens
WARM_UP = 0.05  # share of the training; the published runs warm up for 250 steps
SPLITS = ("train", "validation", "test")
VALIDATION_WINDOWS = 10_240  # 10,485,760 tokens, as in the benchmark


class Data(NamedTuple):
    """A text in windows."""

    source: DataSource
    name: str
    tokens: int  # number of different ones
    splits: Mapping[str, Split]


@checked
def pretraining(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    text: Literal["auto", "tinyshakespeare", "wikitext2", "pydoc"] = "auto",
    head: Literal["untied", "tied"] = "untied",
) -> Task:
    """Pretrain a small GPT with normalised queries and keys: the loss after a fixed budget.

    Not an experiment of the paper. The rows of every head's queries and keys are scale-invariant
    units together; with an untied head, so are the rows of the embedding.

    Args:
        preset: "mini" is a net of 4 layers of width 128 for 600 steps; "paper" is GPT-2 with 124
            million weights on the user's shards of FineWeb, as in modded-nanogpt's
            track 3; they have no test split, so the validation split is scored.
        data: Folder of all data sets: "tinyshakespeare", "wikitext-2", "fineweb10B".
        text: Text of "mini"; "auto" is tinyshakespeare if the data contain it, else pydoc, the
            topics of Python's help. Both are read by characters, wikitext2 by bytes.
        head: Whether the last layer shares its weights with the embedding.

    Raises:
        ValueError: text is set with "paper", or the data are missing, broken or too short.
    """
    small = preset == "mini"
    sizes = SMALL if small else GPT2
    steps, batch_size = (MINI_STEPS, MINI_BATCH) if small else (PAPER_STEPS, PAPER_BATCH)
    read = _mini(data, text, sizes) if small else _paper(data, text, sizes)
    return Task(
        name="pretraining",
        about=f"{read.name} ({read.tokens:,} tokens), GPT of {sizes.layers} x {sizes.width}, "
        f"{head} head",
        data=read.source,
        metric=Metric(
            "loss", "nats", chance_score=math.log(read.tokens), higher_is_better=False, margin=0.01
        ),
        epochs=steps * batch_size / len(read.splits["train"]),
        batch_size=batch_size,
        splits=read.splits,
        model=lambda: GPT(read.tokens, sizes, tied=head == "tied"),
        loss=_loss,
        predict=_predict,
        score=_score,
        published=untuned(sgd=(0.3, 1e-5), adam=(3e-3, 1e-2) if small else (1.5e-3, 0.125)),
        groups=partial(_groups, heads=sizes.heads),
        schedule=partial(cosine_schedule, warm_up=WARM_UP),
        evaluation_batch_size=64,
        evaluations=2,  # each takes as long as 30 steps
        max_grad_norm=1.0,
    )


def _mini(data: Path | None, text: str, sizes: Sizes) -> Data:
    if text == "wikitext2":
        paths = texts.WIKITEXT2.require(data)
        source = described("WikiText-2 (Merity et al. 2016), by bytes", paths)
        encoded = dict(zip(SPLITS, (np.fromfile(path, np.uint8) for path in paths), strict=True))
        name, tokens = "wikitext2", 256
    else:
        read = texts.MINI[text](data)
        source, name, encoded, tokens = read.data, read.name, read.splits, len(read.vocabulary)
    try:
        splits = {split: Windows([encoded[split]], sizes.context) for split in SPLITS}
    except ValueError as error:
        raise DataError(f"{source.about}: {error}") from error
    return Data(source, name, tokens, splits)


def _paper(data: Path | None, text: str, sizes: Sizes) -> Data:
    if text != "auto":
        raise ValueError(f"text must be 'auto' with preset 'paper', got {text!r}")
    source, train, held_out = fineweb(data)
    try:
        training = Windows(train, sizes.context)
        validation = Windows(held_out, sizes.context, VALIDATION_WINDOWS)
    except ValueError as error:
        raise DataError(f"{source.about}: {error}") from error
    splits = {"train": training, "validation": validation, "test": validation}
    return Data(source, "FineWeb", GPT2_TOKENS, splits)


def _groups(model: nn.Module, heads: int) -> ParamGroups:
    """All parameters; rows of queries and keys that belong to one head are one unit."""
    [everything] = single_group(model)
    per_head = [
        parameter
        for name, parameter in model.named_parameters()
        if name.endswith(("query.weight", "key.weight"))
    ]
    rest = [p for p in everything["params"] if all(p is not other for other in per_head)]
    rows = per_head[0].shape[0] // heads
    return [{"params": rest}, {"params": per_head, "row_groups": rows}]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    tokens, targets = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def _predict(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[float, int]:
    return _loss(model, batch).item() * batch[1].numel(), batch[1].numel()


def _score(predictions: list[tuple[float, int]]) -> dict[str, float]:
    nats, counts = (sum(values) for values in zip(*predictions, strict=True))
    return {"loss": nats / counts}
