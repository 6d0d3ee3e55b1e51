"""Time `import tangential` once torch is there: fresh interpreters, interleaved, medians.

python bench/import.py [--rounds 15]
"""

import argparse
import statistics
import subprocess
import sys

TORCH = """
import time
start = time.perf_counter()
import torch
torch_there = time.perf_counter()
"""
BOTH = TORCH + "import tangential\n"
PRINT = "end = time.perf_counter(); print(end - start, end - torch_there)"


def seconds(code):
    """Seconds of all imports, and of those after torch, in a fresh interpreter."""
    command = [sys.executable, "-c", code + PRINT]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(word) for word in printed.split()]


def main():
    """Print medians in milliseconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    seconds(BOTH)  # byte code and files are in place afterwards
    alone, both = zip(*((seconds(TORCH), seconds(BOTH)) for _ in range(rounds)), strict=True)
    torch_ms, both_ms, ours_ms = (
        1000 * statistics.median(values)
        for values in ((a for a, _ in alone), (b for b, _ in both), (ours for _, ours in both))
    )
    print(f"median of {rounds} fresh interpreters, interleaved")
    print(f"import torch                      {torch_ms:7.1f} ms")
    print(f"import torch; import tangential   {both_ms:7.1f} ms")
    print(f"import tangential after torch     {ours_ms:7.1f} ms")


if __name__ == "__main__":
    main()
