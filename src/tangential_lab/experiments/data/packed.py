"""Arrays packed into one file."""

from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tangential_lab.experiments.data.sources import Arrays, DataError


def unpacked(path: Path, names: Iterable[str], whence: str) -> Arrays:
    """The arrays of these names in a NumPy archive.

    Args:
        path: Of the archive.
        names: That it must have.
        whence: Where to get it, for the error.

    Raises:
        DataError: it is broken or has not all of them.
    """
    try:
        with path.open("rb") as file, np.load(file) as packed:
            return {name: packed[name] for name in names}
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        BadZipFile,
        AttributeError,
        TypeError,
    ) as error:
        raise DataError(f"{path} is broken: {error}. {whence}") from error
