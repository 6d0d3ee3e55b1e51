"""The command `tangential`: called in this process, or run in a process of its own."""

import os
import subprocess
import sys

from tangential_lab.__main__ import main

PROGRAM = (sys.executable, "-m", "tangential_lab")


def call(capsys, *arguments):
    """Call the command in this process; return its status, its output and its errors."""
    status = 0
    try:
        main([*map(str, arguments)])
    except SystemExit as exit_:
        status = exit_.code or 0
    return status, *capsys.readouterr()


def start(*arguments, program=PROGRAM, columns=120, **options):
    """Start the command in a process group of its own, with pipes for its output and its errors."""
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        env=os.environ | {"COLUMNS": str(columns), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
    )


def run(*arguments, **options):
    """Run the command in a process until it ends; return its status, its output and its errors."""
    process = start(*arguments, **options)
    try:
        out, err = process.communicate(timeout=280)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


def is_one_line(text):
    """Whether this is a single readable line, as every error is."""
    return text.endswith("\n") and text.count("\n") == 1 and len(text) <= 1300


def table_rows(text):
    """The cells of every row of a printed table."""
    lines = (line for line in text.splitlines() if line.startswith("\u2502"))
    return [[cell.strip() for cell in line.strip("\u2502").split("\u2502")] for line in lines]
