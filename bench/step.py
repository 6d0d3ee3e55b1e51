"""Time one optimizer step against its peers: interleaved, medians, one table.

    python bench/step.py [--shapes resnet18 tiny ...] [--gates open shut flicker] [--threads 1 2]
                         [--rounds 15] [--csv FILE]

Gradients are orthogonal to every row of a weight ("open": the gate fires), or have a radial part in
each ("shut"); "flicker": shut, but every matrix fires by chance on 8 % of the steps. All optimizers
step once per round, in turn, so that a change of the machine's speed meets them alike; a figure is
the median over rounds, and a ratio that of medians. Slow peers take part in a third of the rounds.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from tangential.lab.bench import GATES, SHAPES, bench, print_table, write_csv


def main():
    """Print the table, and write it where `--csv` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--gates", nargs="+", choices=GATES, default=list(GATES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    say = Console(stderr=True).print
    try:
        results = bench(options.shapes, options.gates, options.threads, options.rounds, say)
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    print_table(results, Console(width=160))
    if options.csv:
        write_csv(results, options.csv)


if __name__ == "__main__":
    main()
