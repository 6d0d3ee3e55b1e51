"""Tiny language models, for tests."""

import torch

from tangential_lab.experiments.language.reader import Reader
from tangential_lab.experiments.language.transformer_xl import (
    Reach,
    Sizes,
    TransformerXL,
)

WORDS = 11
TINY = Sizes(layers=3, width=8, heads=2, head_width=3, inner=10, dropout=0.0)
FAR = Reach(100)


def net(sizes=TINY, words=WORDS, **options):
    """In float64, with weights so large that attention matters."""
    return roused(TransformerXL(words, sizes, **options).double()).eval()


@torch.no_grad()
def roused(model):
    for param in model.parameters():
        param += 0.5 * torch.randn_like(param)
    return model


def tokens(streams, length):
    return torch.randint(WORDS, (streams, length))


def nothing(model, streams):
    return torch.zeros(len(model.layers), streams, 0, TINY.width, dtype=torch.float64)


def logits(model, parts, reach):
    """Logits of consecutive segments [b, all, words]; the memory is empty at first."""
    memory, outs = nothing(model, len(parts[0])), []
    for part in parts:
        states, memory = model.read(part, memory, reach)
        outs.append(states @ model.vocabulary.weight.T + model.vocabulary.bias)
    return torch.cat(outs, 1)


def reader(*, dropout=0.0, **options):
    sizes = TINY._replace(cutoffs=(4, 7), dropout=dropout)
    return Reader(TransformerXL(WORDS, sizes, **options), Reach(4), Reach(6, same_length=True), 3)
