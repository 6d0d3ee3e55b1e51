"""The commands `tangential data list`, `fetch` and `check`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyclopts import App
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tangential_lab.errors import report_errors
from tangential_lab.experiments.data.sources import DataError, DataFolder, data_home
from tangential_lab.experiments.downloads import (
    OnProgress,
    check_files,
    checksum_note,
    data_set,
    data_sets,
    fetch,
    is_needed,
    part_of,
    record_path,
)
from tangential_lab.files import make_writable_folder
from tangential_lab.terminal import say

WHERE = "--data DIR (or TANGENTIAL_DATA=DIR)"
CONTINUE = "Run the same command again to continue the download."

app = App(name="data", help="List, download and check the data sets that the tasks read.")


@app.command(name="list")
def list_(*names: str, data: Path | None = None) -> None:
    """List the data sets: what each contains, who published it, and whether it is there.

    Args:
        names: Only these data sets.
        data: Folder that contains one folder per data set; by default TANGENTIAL_DATA.
    """
    console, home = Console(), data_home(data)
    chosen = {data_set(name).name for name in names}
    for folder in data_sets():
        if chosen and folder.name not in chosen:
            continue
        size = f"{_size(folder.megabytes)}, " if folder.megabytes else ""
        say(console, f"{folder.name}: {size}{_state(folder, home)}", style="bold")
        say(console, f"{folder.title}; by {folder.publisher}; licence: {folder.licence}", "  ")
        files = ", ".join(folder.files) if folder.files != (".",) else "all its files"
        say(console, f"files for {folder.used_by}: {files}", "  ", style="dim")
        if not folder.downloads:
            say(console, folder.download_hint, "  ")
    where = f"Looked in {home}." if home else f"Pass {WHERE} to see which are there."
    say(console, f"{where} `tangential data fetch NAME --data DIR` downloads a data set.")


def _state(folder: DataFolder, home: Path | None) -> str:
    get = "`fetch` downloads it" if folder.downloads else "get it yourself"
    if home is None:
        return get
    try:
        if folder.find(home):
            return "found"
    except DataError:
        return "incomplete"
    is_started = part_of(folder, home).is_dir()
    return "download not finished" if is_started else f"not found, {get}"


def _size(megabytes: int) -> str:
    return f"{megabytes / 1000:.3g} GB" if megabytes >= 1000 else f"{megabytes} MB"


@app.command(name="fetch")
def fetch_(*names: str, data: Path | None = None) -> None:
    """Download data sets from their authors' addresses, in the layout that the tasks read.

    An interrupted download continues when the same command is run again. DIR/NAME appears when it
    is complete; DIR/NAME.sha256 then has the checksums of its files.

    Args:
        names: Data sets, by the names that `tangential data list` shows.
        data: Folder that gets one folder per data set; by default TANGENTIAL_DATA.
    """
    console = Console()
    with report_errors(hint=CONTINUE):
        if not names:
            raise ValueError("no data set was named: see `tangential data list`")
        folders = [data_set(name) for name in names]
        home = data or _required(None)
        needed = [folder for folder in folders if is_needed(folder, home)]
        make_writable_folder(home)
        for folder in folders:
            if folder not in needed:
                say(console, f"{folder.name} is complete already in {home / folder.name}.")
        for folder in dict.fromkeys(needed):
            _fetch(folder, home, console)


def _fetch(folder: DataFolder, home: Path, console: Console) -> None:
    say(console, f"{folder.title} (licence: {folder.licence}), from")
    for source in folder.downloads:
        say(console, source.url, "  ", style="dim")
    with _progress_bar(console) as on_progress:
        fetch(folder, home, on_progress)
    say(console, f"{home / folder.name} is complete ({checksum_note(folder)}).")
    say(console, f"{record_path(folder, home)} has the checksums of its files.")


@app.command(name="check")
def check(data: Path | None = None, /) -> None:
    """Check every data set in a folder: is it complete, and are its files the published ones?

    The exit status is 1 if a data set is incomplete or has changed.

    Args:
        data: Folder that contains one folder per data set; by default TANGENTIAL_DATA.
    """
    console, results = Console(), []
    with report_errors():
        home = _required(data)
        for folder in data_sets():
            with _progress_bar(console) as on_progress:
                result = check_files(folder, home, on_progress)
            if result:
                results.append(result.is_good)
                say(console, f"{folder.name} ({folder.used_by}): {result.text}.")
            elif part_of(folder, home).is_dir():
                results.append(False)
                command = f"tangential data fetch {folder.name}"
                say(console, f"{folder.name}: download not finished; `{command}` continues it.")
        if not results:
            raise ValueError(f"{home} contains no data set: see `tangential data list`")
    sys.exit(0 if all(results) else 1)


def _required(data: Path | None) -> Path:
    home = data_home(data)
    if home is None:
        raise ValueError(f"no folder of data sets was given: pass {WHERE}")
    return home


@contextmanager
def _progress_bar(console: Console) -> Iterator[OnProgress]:
    """A bar for what is being done now; nothing where the output is not a terminal."""
    columns = (
        TextColumn("{task.description:11}"),
        BarColumn(30),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(compact=True),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:

        def show(what: str, done: int, total: int | None, unit: str) -> None:
            if progress.tasks and progress.tasks[0].description != what:
                progress.remove_task(progress.tasks[0].id)
            if not progress.tasks:
                progress.add_task(what, total=total, count="")
            count = f"{done:,} files"
            if unit == "bytes":
                of_total = f" of {total / 1e6:,.1f}" if total else ""
                count = f"{done / 1e6:,.1f}{of_total} MB"
            task = progress.tasks[0].id
            progress.update(task, completed=done, total=total, count=count)

        yield show
