"""The command `tangential`; the laboratory behind it is an optional extra."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper

from tangential_lab.errors import reported, stop


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on standard error.

    Args:
        arguments: Of the command; by default those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± or ━ still gets the figures
    with reported():
        _run(list(arguments))


def _run(arguments: list[str]) -> None:
    try:
        from tangential_lab.cli.app import run
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("tangential"):
            raise
        _without_laboratory(arguments, error.name)
    else:
        run(arguments)


def _without_laboratory(arguments: list[str], missing: str) -> None:
    """What needs torch alone, or the package to install."""
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(version("tangential"))
    elif arguments == ["info"]:
        from tangential.backends import described

        print(described())
    else:
        stop(
            f"Stopped: {missing} is not installed: run pip install 'tangential[lab]' (without it, "
            "the commands info and --version work, and all of `import tangential`)"
        )


if __name__ == "__main__":
    main()
