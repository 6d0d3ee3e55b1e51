"""What identifies a trial, and the record of its results."""

from typing import Any, Literal, NamedTuple, get_args

Phase = Literal["tune", "test", "undecayed"]  # undecayed: the baseline's lr and no weight decay,
# so that the norms of two optimizers differ only through their updates
Point = dict[str, float]  # in a search space: {"lr": 0.1, "weight_decay": 1e-4}
Record = dict[str, Any]

PHASES: dict[str, str] = {  # phase -> the split on which its trials are scored
    phase: "validation" if phase == "tune" else "test" for phase in get_args(Phase)
}


class Spec(NamedTuple):
    """What identifies a trial: two trials with the same spec have the same result."""

    optimizer: str
    phase: Phase
    seed: int
    point: tuple[tuple[str, float], ...]  # (("lr", 0.1), ("weight_decay", 1e-4))

    @property
    def values(self) -> Point:
        """The point, by name."""
        return dict(self.point)


Records = dict[Spec, Record]
