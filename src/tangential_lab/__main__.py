"""The command `tangential`. Most subcommands need the extra `lab`; without it they say so."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from tangential_lab.errors import (
    exit_on_interrupt,
    exit_with,
    exits_are_errors,
    report_errors,
    terminations_are_interrupts,
    with_lab,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on standard error.

    Args:
        arguments: Arguments of the command; by default `sys.argv[1:]`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot show ± or ━
    with exits_are_errors(), report_errors(), terminations_are_interrupts():
        _run(list(arguments))


def _run(arguments: list[str]) -> None:
    try:
        with exit_on_interrupt(), _loading_notice():
            from tangential_lab.cli.app import run
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("tangential"):
            raise
        _run_without_lab(arguments, error.name)
    else:
        run(arguments)


@contextmanager
def _loading_notice() -> Iterator[None]:
    """Show on a terminal that PyTorch is loading, which takes seconds; then remove the line."""
    text, terminal = "Loading PyTorch ...", sys.stderr
    if terminal is None or not terminal.isatty():
        yield
        return
    print(text, end="\r", file=terminal, flush=True)
    try:
        yield
    finally:
        print(" " * len(text), end="\r", file=terminal, flush=True)


def _run_without_lab(arguments: list[str], missing: str) -> None:
    """Run a command that needs only torch; for other commands, say which package to install."""
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(version("tangential"))
    elif arguments == ["info"]:
        from tangential.backends import described

        print(described())
    else:
        exit_with(
            f"Stopped: {missing} is not installed: run pip install {with_lab()} (without it, "
            "the commands info and --version work, and all of `import tangential`)"
        )


if __name__ == "__main__":
    main()
