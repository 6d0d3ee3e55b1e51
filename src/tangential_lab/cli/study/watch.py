"""The command `tangential watch`."""

from cyclopts.types import Port

from tangential_lab.cli.study import server
from tangential_lab.cli.study.location import DEFAULT_LOCATION, Location, study_errors


def watch(study: str, /, *, location: Location = DEFAULT_LOCATION, port: Port = 0) -> None:
    """Serve the page of a study on this machine while the study runs.

    Args:
        study: Name of the study, or its folder.
        location: Where studies are stored.
        port: Port of the page; by default any free one.
    """
    with study_errors():
        _, store = location.open(study)
        store.plan()
        server.serve(lambda: ((plan := store.plan()), store.records(plan)), port)
