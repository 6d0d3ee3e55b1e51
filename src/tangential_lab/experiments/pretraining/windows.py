"""Texts cut into windows: texts in memory, and shards of tokens as modded-nanogpt writes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tangential_lab.experiments.data.sources import DataFolder, described
from tangential_lab.training import DataSource

HEADER = 256  # 32-bit integers before the tokens: a magic number, a version, the number of tokens
MAGIC, VERSION = 20240520, 1
GPT2_TOKENS = 50_304  # 50,257, padded as in the published code
FINEWEB = DataFolder(
    "fineweb10B",
    (".",),
    "Get shards by data/cached_fineweb10B.py of https://github.com/KellerJordan/modded-nanogpt.",
    title="FineWeb, 10 billion tokens of GPT-2",
    publisher="Hugging Face; K. Jordan",
    licence="ODC-By 1.0",
    megabytes=20_600,
    used_by="pretraining preset=paper",
)


@dataclass(frozen=True)
class Windows:
    """Consecutive windows of one or several texts; a sample is one of them.

    Batches are tokens, and the next token at each position [n, length]. The rest of a text after
    its last whole window is not used. Texts that are shorter than a window are a ValueError.

    Args:
        texts: Tokens of each text [n].
        length: Length of a window.
        most: Use only that many windows, the first ones.
    """

    texts: list[np.ndarray]
    length: int
    most: int | None = None

    def __post_init__(self) -> None:
        if not len(self):
            longest = max(map(len, self.texts), default=0)
            raise ValueError(f"a text must have at least {self.length + 1} tokens, got {longest}")

    def __len__(self) -> int:
        return sum(map(self._windows, self.texts)) if self.most is None else self.most

    def _windows(self, text: np.ndarray) -> int:
        return (len(text) - 1) // self.length

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(np.stack([self._window(index) for index in indices]))
        return rows[:, :-1], rows[:, 1:]

    def _window(self, index: int) -> np.ndarray:
        for text in self.texts:
            if index < self._windows(text):
                start = index * self.length
                return text[start : start + self.length + 1].astype(np.int64)
            index -= self._windows(text)
        raise IndexError("there are fewer windows than `most`")


def fineweb(data: Path | None) -> tuple[DataSource, list[np.ndarray], list[np.ndarray]]:
    """The user's shards: their description, the training files, the validation files.

    Raises:
        DataError: there are no shards, or a file is not one.
    """
    (folder,) = FINEWEB.require(data)
    files = {part: sorted(folder.glob(f"*_{part}_*.bin")) for part in ("train", "val")}
    for part, paths in files.items():
        if not paths:
            raise FINEWEB.error(f"{folder} has no file *_{part}_*.bin")
    source = described("FineWeb, tokens of GPT-2", [*files["train"], *files["val"]])
    train, validation = ([_tokens(path) for path in paths] for paths in files.values())
    return source, train, validation


def _tokens(path: Path) -> np.ndarray:
    with FINEWEB.reading(path, "a shard of GPT-2 tokens"):
        magic, version, count = np.fromfile(path, np.int32, 3)
        tokens = np.memmap(path, np.uint16, "r", offset=4 * HEADER)
        if (magic, version, count) != (MAGIC, VERSION, len(tokens)):
            raise ValueError(
                f"its header is {magic}, {version}, {count:,} for {len(tokens):,} tokens"
            )
        return tokens
