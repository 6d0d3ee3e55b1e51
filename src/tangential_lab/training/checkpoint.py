"""A trial's state on disk: whole or not at all, never the only one; no code is run to read it."""

import io
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tangential.files import write_atomically

State = dict[str, Any]

KEPT = 2  # the newest, and one to fall back to
DIGEST = 32  # bytes of sha256 before the payload


def save(folder: Path, state: State) -> None:
    """Write the state of step `state["step"]` aside and rename it; older ones but one go.

    Raises:
        OSError: it cannot be written; what was there still is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    payload = io.BytesIO()
    torch.save(state, payload)
    whole = payload.getbuffer()
    with write_atomically(folder / f"{state['step']:010}.checkpoint", "wb") as file:
        file.write(sha256(whole).digest())
        file.write(whole)
    for path in _newest_first(folder)[KEPT:]:
        path.unlink(missing_ok=True)  # another process may have removed it


def load(folder: Path) -> State | None:
    """The newest state that is whole, or None. Warns of every one that is not."""
    return next(_whole(folder), None)


def _whole(folder: Path) -> Iterator[State]:
    for path in _newest_first(folder):
        try:
            content = path.read_bytes()
            if sha256(memoryview(content)[DIGEST:]).digest() != content[:DIGEST]:
                raise ValueError("its checksum is another")
            yield torch.load(io.BytesIO(content[DIGEST:]), map_location="cpu", weights_only=True)
        except (OSError, ValueError, RuntimeError, UnpicklingError) as error:
            warnings.warn(f"checkpoint {path} is not used: {error}", stacklevel=3)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.checkpoint"), reverse=True)
