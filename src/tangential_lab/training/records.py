"""What a trial is, and what is known of it afterwards."""

from typing import Any, NamedTuple

Point = dict[str, float]
Record = dict[str, Any]

PHASES = {  # and the split that scores each
    "tune": "validation",
    "test": "test",
    "undecayed": "test",  # the baseline's lr, no decay: norms differ by nothing but the update
}


class Spec(NamedTuple):
    """What a trial is; two trials with the same spec are the same trial."""

    optimizer: str
    phase: str  # one of PHASES
    seed: int
    point: tuple[
        tuple[str, float], ...
    ]  # of the optimizer's space: ("lr", .1), ("weight_decay", 1e-4)

    @property
    def values(self) -> Point:
        """The point, by name."""
        return dict(self.point)


Records = dict[Spec, Record]
