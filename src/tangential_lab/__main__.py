"""The command `tangential`. Most of it needs the extra `lab`, and says so if that is missing."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper

from tangential_lab.errors import exit_on_interrupt, exit_with, report_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error is one line on standard error.

    Args:
        arguments: Arguments of the command; by default those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± or ━ still gets the figures
    with report_errors():
        _run(list(arguments))


def _run(arguments: list[str]) -> None:
    try:
        with exit_on_interrupt():  # torch alone takes a second or two
            from tangential_lab.cli.app import run
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("tangential"):
            raise
        _run_without_lab(arguments, error.name)
    else:
        run(arguments)


def _run_without_lab(arguments: list[str], missing: str) -> None:
    """Run what needs only torch; for other commands, say which package to install."""
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(version("tangential"))
    elif arguments == ["info"]:
        from tangential.backends import described

        print(described())
    else:
        exit_with(
            f"Stopped: {missing} is not installed: run pip install 'tangential[lab]' (without it, "
            "the commands info and --version work, and all of `import tangential`)"
        )


if __name__ == "__main__":
    main()
