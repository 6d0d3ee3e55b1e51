"""The command `tangential`; the laboratory behind it is an optional extra."""

import sys


def main() -> None:
    """Run the command line, or say what is missing."""
    try:
        from tangential.lab.cli import app
    except ModuleNotFoundError as error:
        sys.exit(
            f"tangential: the laboratory needs {error.name}: run pip install 'tangential[lab]'\n"
            "(the optimizers work without it: from tangential import AdamP, SGDP)"
        )
    app()


if __name__ == "__main__":
    main()
