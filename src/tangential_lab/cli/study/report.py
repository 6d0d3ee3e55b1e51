"""The command `tangential report`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tangential_lab.cli.study.location import DEFAULT_LOCATION, Location, study_errors
from tangential_lab.cli.study.tables import print_report
from tangential_lab.files import make_writable_folder
from tangential_lab.reports import Report, write_overview, write_report
from tangential_lab.reports import report as report_of
from tangential_lab.studies import Store


def report(studies: list[str], /, *, location: Location = DEFAULT_LOCATION) -> None:
    """Report on one study, or on several together.

    Args:
        studies: Names of studies, or their folders.
        location: Where studies are stored.
    """
    console, reports = Console(), []
    with study_errors():
        for study in studies:
            folder, store = location.open(study)
            with store.undamaged():
                reports.append(conclude(store, folder, console))
        if len(reports) > 1:
            print_paths(write_overview(reports, location.out), console)


def conclude(store: Store, folder: Path, console: Console) -> Report:
    """Write the report of a study into its folder, and print it."""
    plan = store.plan()
    make_writable_folder(folder)
    result = report_of(plan, store.records(plan))
    paths = write_report(result, folder)
    print_report(result, console)
    print_paths(paths[:1], console)
    return result


def print_paths(paths: Sequence[Path], console: Console) -> None:
    """Print the full path of every file, one per line."""
    for path in paths:
        console.print(str(path.resolve()), soft_wrap=True, highlight=False, markup=False)
