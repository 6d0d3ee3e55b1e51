"""Time the import of AdamP, Monitor and audit after `import torch`: fresh interpreters, medians.

python bench/import.py [--rounds 15]
"""

import subprocess
import sys
from functools import partial
from statistics import median
from typing import NamedTuple

from timing import interleaved, options_of

TORCH = """
import time
start = time.perf_counter()
import torch
after_torch = time.perf_counter()
"""
BOTH = TORCH + "from tangential import AdamP, Monitor, audit\n"
PRINT = "end = time.perf_counter(); print(end - start, end - after_torch)"


class Seconds(NamedTuple):
    """Of all imports of an interpreter, and of those after torch."""

    total: float
    after_torch: float


def import_s(code):
    """Run imports in a fresh interpreter."""
    command = [sys.executable, "-c", code + PRINT]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Seconds(*map(float, printed.split()))


def main():
    """Print medians in milliseconds."""
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    measured = interleaved({code: partial(import_s, code) for code in (TORCH, BOTH)}, rounds)

    def show(text, values):
        print(f"{text:34}{1000 * median(values):7.1f} ms")

    print(f"median of {rounds} fresh interpreters, interleaved")
    show("import torch", [x.total for x in measured[TORCH]])
    show("import torch and the names", [x.total for x in measured[BOTH]])
    show("the names after torch", [x.after_torch for x in measured[BOTH]])


if __name__ == "__main__":
    main()
