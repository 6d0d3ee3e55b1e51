"""The result of an audit: one line per weight, a summary, and files."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tangential.backends import Units
from tangential.invariance.evidence import Kind, units_in_words
from tangential.invariance.proofs import Decision
from tangential.names import literal


@dataclass(frozen=True)
class Line:
    """The audit of one weight, and the published gate's decisions about it.

    Attributes:
        kind: "row": scale-invariant by row or by unit of rows. "weight": only as a whole.
            "variant": not scale-invariant. "dead": no effect on the loss, or no gradient.
        row_axis: Axis of the rows, for the optimizer.
        row_groups: Number of consecutive rows that form one unit.
        radial: Largest sqrt(elements) |cos(weight, gradient)| of a unit; of order 1 by chance.
        eps_radial: The RMS over all units for the unchanged model; the gate fires below 0.1.
        verified: Whether rescaling confirms the kind; None if it was not tried.
        gate: The gate's decision per batch.
        gate_axis: Axis of the rows that the gate looked at: 0, or the last one for Keras.
        notes: Caveats in words.
        remedy: What to change in the model, such as "bias=False in conv1".
    """

    name: str
    shape: tuple[int, ...]
    size: int
    kind: Kind
    row_axis: int
    row_groups: int
    radial: float
    eps_radial: float
    verified: bool | None
    gate: tuple[Decision, ...]
    notes: tuple[str, ...]
    remedy: str = ""
    gate_axis: int = 0

    @property
    def units(self) -> Units:
        """What the optimizer should project: `projection`, `row_axis`, `row_groups`."""
        if self.kind in ("row", "weight"):
            return Units(self.kind, self.row_axis, self.row_groups)
        return Units("off")

    @property
    def of_rows(self) -> bool:
        """Whether single rows are invariant, along the axis that the gate looked at."""
        return self.units == Units("row", self.gate_axis)

    @property
    def flicker(self) -> float:
        """Share of batches on which the gate's decision is not its most frequent one."""
        return 1 - max(Counter(self.gate).values()) / len(self.gate)

    @property
    def wrong(self) -> float:
        """Share of batches on which the gate projects units that are not scale-invariant."""
        return self._share(lambda decision: not self._allows(decision))

    @property
    def missed(self) -> float:
        """Share of batches on which the gate fails to project an invariant weight by its units.

        Projections that count as `wrong` do not count here.
        """
        best = self.units.projection
        return self._share(lambda decision: decision != best != "off" and self._allows(decision))

    def _allows(self, decision: Decision) -> bool:
        if decision == "off" or self.kind == "dead":
            return True
        return self.of_rows if decision == "row" else self.kind in ("row", "weight")

    def _share(self, test: Callable[[Decision], bool]) -> float:
        return sum(map(test, self.gate)) / len(self.gate)


@dataclass(frozen=True)
class Audit:
    """One line per weight, and the caveats of the model.

    Attributes:
        lines: In the order of the model. A tied weight has one line, under its first name.
        notes: Caveats in words.
        mode: "training" or "eval".
        batches: Number of batches.
    """

    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    mode: Literal["training", "eval"]
    batches: int

    def __getitem__(self, name: str) -> Line:
        return {line.name: line for line in self.lines}[name]

    def names(self, kind: Kind) -> list[str]:
        """The names of all weights of a kind."""
        return [line.name for line in self.lines if line.kind == kind]

    def share(self, kind: Kind) -> float:
        """Share of all elements that are in weights of a kind; "row" includes units of rows."""
        return self._share_of([line for line in self.lines if line.kind == kind])

    def _share_of(self, lines: Iterable[Line]) -> float:
        total = sum(line.size for line in self.lines)
        return sum(line.size for line in lines) / max(total, 1)

    @property
    def wrong(self) -> list[Line]:
        """Weights that the gate would project wrongly on some batch."""
        return [line for line in self.lines if line.wrong]

    @property
    def missed(self) -> list[Line]:
        """Weights that the gate would miss on some batch."""
        return [line for line in self.lines if line.missed]

    @property
    def summary(self) -> str:
        """One sentence: "96.4 % of the weights are scale-invariant by row"."""
        parts = []
        for layout in ("row", "axis", "unit", "weight", "dead"):
            lines = [line for line in self.lines if _layout(line) == layout]
            share = f"{100 * self._share_of(lines):.1f} %"
            if layout == "row":
                parts.append(f"{share} of the weights are scale-invariant by row")
            elif self._share_of(lines) >= 0.0005:
                parts.append(f"{share} {_lines_in_words(lines)}")
        return ", ".join(parts)

    def records(self) -> list[dict[str, Any]]:
        """One dictionary per weight."""
        extra = ("flicker", "wrong", "missed")
        return [
            {**asdict(line), "projection": line.units.projection}
            | {name: getattr(line, name) for name in extra}
            for line in self.lines
        ]

    def to_csv(self, path: str | Path) -> None:
        """Write one row per weight; cells of several values are joined by spaces or semicolons.

        A text that a spreadsheet would run as a formula, such as a name that begins with "=", gets
        a single quote in front.
        """
        separators = {"shape": " ", "gate": " ", "notes": "; "}
        with Path(path).open("w", newline="", encoding="utf-8", errors="replace") as file:
            rows = csv.writer(file)
            for number, record in enumerate(self.records()):
                record |= {key: sep.join(map(str, record[key])) for key, sep in separators.items()}
                if number == 0:
                    rows.writerow(record)
                rows.writerow(literal(x) if isinstance(x, str) else x for x in record.values())

    def to_json(self, path: str | Path) -> None:
        """Write everything: summary, mode, number of batches, shares, notes and weights."""
        whole = {
            "summary": self.summary,
            "mode": self.mode,
            "batches": self.batches,
            "shares": {kind: self.share(kind) for kind in get_args(Kind)},
            "notes": self.notes,
            "weights": self.records(),
        }
        Path(path).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _layout(line: Line) -> str:
    """The kind of a line; "row" may become "axis" (not the gate's) or "unit" (units of rows)."""
    if line.kind != "row" or line.of_rows:
        return line.kind
    return "axis" if line.row_groups == 1 else "unit"


def _lines_in_words(lines: list[Line]) -> str:
    """How several weights of one layout are scale-invariant.

    >>> from dataclasses import replace
    >>> line = Line("w", (8, 8), 64, "row", 0, 4, 0.0, 0.0, None, ("off",), ())
    >>> _lines_in_words([line]), _lines_in_words([line, replace(line, row_groups=2, row_axis=1)])
    ('by unit of 4 rows', 'by unit of 2 to 4 rows')
    """
    if lines[0].kind == "dead":
        return "have no effect"
    layouts = {line.units for line in lines}
    if len(layouts) == 1:
        return units_in_words(layouts.pop())
    groups, axes = {line.row_groups for line in lines}, {line.row_axis for line in lines}
    if len(groups) > 1:
        return f"by unit of {min(groups)} to {max(groups)} rows"
    rows = units_in_words(Units("row", row_groups=groups.pop()))
    return f"{rows} of axes {' and '.join(map(str, sorted(axes)))}"
