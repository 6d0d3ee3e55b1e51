"""The command `tangential`; the laboratory behind it is an optional extra."""

import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command line, or say what is missing."""
    try:
        from tangential.lab.cli import app
    except ModuleNotFoundError as error:
        if sys.argv[1:] == ["info"]:
            from tangential.backends import described

            print(described())
            return
        sys.exit(
            f"tangential: the laboratory needs {error.name}: run pip install 'tangential[lab]'\n"
            "(the optimizers work without it: from tangential import AdamP, SGDP)"
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± or ━ still gets the figures
    app()


if __name__ == "__main__":
    main()
