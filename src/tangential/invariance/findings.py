"""What an audit found: a line for every weight, its summary, and groups for the optimizer."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tangential.invariance.evidence import ROWS, Units, described
from tangential.names import literal, plain, plainest, unwrapped


@dataclass(frozen=True)
class Line:
    """One weight: the truth, and what the published gate would do with it.

    Attributes:
        kind: Scale-invariant by "row" (or unit of rows) or as a whole "weight"; "variant"; or
            "dead": without effect on the loss, or without a gradient.
        row_axis: Axis of the rows, for the optimizer.
        row_groups: Consecutive rows that form one unit.
        radial: Largest sqrt(elements) |cos(weight, gradient)| of a unit; of order 1 by chance.
        eps_radial: The same of the model as it is, over all units; the gate shuts at 0.1.
        verified: Whether the functional proof agrees; None where it was not asked for.
        gate: The gate's verdict per batch: "row", "weight", "off".
        notes: Known caveats, in words.
        remedy: What to change in the model, such as "bias=False in conv1".
    """

    name: str
    shape: tuple[int, ...]
    size: int
    kind: str
    row_axis: int
    row_groups: int
    radial: float
    eps_radial: float
    verified: bool | None
    gate: tuple[str, ...]
    notes: tuple[str, ...]
    remedy: str = ""

    @property
    def units(self) -> Units:
        """What the optimizer should take as one: `projection`, `row_axis`, `row_groups`."""
        if self.kind in ("row", "weight"):
            return Units(self.kind, self.row_axis, self.row_groups)
        return Units("off")

    @property
    def flicker(self) -> float:
        """Share of batches on which the gate departs from its most frequent verdict."""
        return 1 - max(Counter(self.gate).values()) / len(self.gate)

    @property
    def wrong(self) -> float:
        """Share of batches on which the gate projects what is not scale-invariant."""
        return self._share(lambda said: not self._may(said))

    @property
    def missed(self) -> float:
        """Share of batches on which the gate leaves what is, or projects it coarser than could be.

        Where it projects wrongly, it has not missed the weight.
        """
        wanted = self.units.projection
        return self._share(lambda said: said != wanted and wanted != "off" and self._may(said))

    def _may(self, said: str) -> bool:
        by_row = self.kind == "row" and self.units == ROWS
        return {"row": by_row, "weight": self.kind in ("row", "weight"), "off": True}[said] or (
            self.kind == "dead"
        )

    def _share(self, test: Callable[[str], bool]) -> float:
        return sum(map(test, self.gate)) / len(self.gate)


@dataclass(frozen=True)
class Audit:
    """A line for every weight (tied weights once, under their first name), and a model's caveats.

    `mode` is "training" or "eval", `batches` their number.
    """

    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    mode: str
    batches: int

    def __getitem__(self, name: str) -> Line:
        return {line.name: line for line in self.lines}[name]

    def names(self, kind: str) -> list[str]:
        """The weights of a kind: "row", "weight", "variant", "dead"."""
        return [line.name for line in self.lines if line.kind == kind]

    def share(self, kind: str) -> float:
        """Share of all elements that lie in weights of a kind; "row" includes units of rows."""
        return self._share_of([line for line in self.lines if line.kind == kind])

    def _share_of(self, lines: Iterable[Line]) -> float:
        every = sum(line.size for line in self.lines)
        return sum(line.size for line in lines) / max(every, 1)

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
        manners: dict[str, list[Line]] = {}
        for line in self.lines:
            manners.setdefault(_manner(line), []).append(line)
        rest = [
            f"{_percent(share)} {_together(lines)}"
            for manner in ("axis", "unit", "weight", "dead")
            if (share := self._share_of(lines := manners.get(manner, []))) >= 0.0005
        ]
        by_row = _percent(self._share_of(manners.get("row", [])))
        return ", ".join([f"{by_row} of the weights are scale-invariant by row", *rest])

    def records(self) -> list[dict[str, Any]]:
        """A dictionary for every weight."""
        extra = ("flicker", "wrong", "missed")
        return [
            {**asdict(line), "projection": line.units.projection}
            | {name: getattr(line, name) for name in extra}
            for line in self.lines
        ]

    def to_csv(self, path: str | Path) -> None:
        """Write a line for every weight; shape, gate and notes are joined by spaces.

        A text that a spreadsheet would run as a formula, such as a name that begins with "=", gets
        a single quote before it.
        """
        joined = {"shape": " ", "gate": " ", "notes": "; "}
        with Path(path).open("w", newline="", encoding="utf-8", errors="replace") as file:
            lines = csv.writer(file)
            for number, record in enumerate(self.records()):
                record |= {key: sep.join(map(str, record[key])) for key, sep in joined.items()}
                if number == 0:
                    lines.writerow(record)
                lines.writerow(literal(x) if isinstance(x, str) else x for x in record.values())

    def to_json(self, path: str | Path) -> None:
        """Write everything: summary, mode, number of batches, shares, notes and weights."""
        shares = {kind: self.share(kind) for kind in ("row", "weight", "variant", "dead")}
        whole = {"summary": self.summary, "mode": self.mode, "batches": self.batches}
        whole |= {"shares": shares, "notes": self.notes, "weights": self.records()}
        Path(path).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _manner(line: Line) -> str:
    """The kind of a line; of "row" whether by row, by row of another axis, or by unit of rows."""
    if line.kind != "row" or line.units == ROWS:
        return line.kind
    return "axis" if line.row_groups == 1 else "unit"


def _together(lines: list[Line]) -> str:
    """How several weights are scale-invariant, in words.

    >>> from dataclasses import replace
    >>> line = Line("w", (8, 8), 64, "row", 0, 4, 0.0, 0.0, None, ("off",), ())
    >>> _together([line]), _together([line, replace(line, row_groups=2, row_axis=1)])
    ('by unit of 4 rows', 'by unit of 2 to 4 rows')
    """
    if lines[0].kind == "dead":
        return "have no effect"
    kinds = {line.units for line in lines}
    if len(kinds) == 1:
        return described(kinds.pop())
    groups, axes = ({getattr(line, key) for line in lines} for key in ("row_groups", "row_axis"))
    if len(groups) > 1:
        return f"by unit of {min(groups)} to {max(groups)} rows"
    rows = "by row" if groups == {1} else f"by unit of {groups.pop()} rows"
    return f"{rows} of axes {' and '.join(map(str, sorted(axes)))}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def param_groups(model: nn.Module, audit: Audit) -> list[dict[str, Any]]:
    """Groups for AdamP or SGDP, `projection`, `row_axis` and `row_groups` as the audit has them.

    Weights that no other group shares its settings with form one; scale-variant and dead weights
    are "off". Further options of a group may be added; those left out are the optimizer's.

    Args:
        model: The one audited, or another with the same weights. Either may
            be inside torch.compile, DataParallel, DistributedDataParallel and other wrappers.
        audit: Its audit.

    Raises:
        ValueError: a weight is not in the audit, or has another shape there.
        TypeError: `model` is not a module, or `audit` is not an audit.

    >>> import torch, tangential
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> result = tangential.audit(model, [torch.randn(8, 4) for _ in range(3)])
    >>> [(g["projection"], len(g["params"])) for g in param_groups(model, result)]
    [('row', 1), ('off', 3)]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {_shown(model)}: call param_groups(model, audit)"
        )
    if not isinstance(audit, Audit):
        raise TypeError(
            "audit must be what tangential.audit(model, batches) returns, "
            f"got {_shown(audit)}: call param_groups(model, audit)"
        )
    groups: dict[Units, list[nn.Parameter]] = {}
    for param, line in _lines_of(model, audit):
        groups.setdefault(line.units, []).append(param)
    return [{"params": params, **units._asdict()} for units, params in groups.items()]


def _shown(given: Any) -> str:
    return "None" if given is None else f"an object of type {type(given).__name__}"


def _lines_of(model: nn.Module, audit: Audit) -> list[tuple[nn.Parameter, Line]]:
    """Every weight with its line, by the same name or by that without wrappers' parts."""
    inner = unwrapped(model)
    for module, simplified in ((model, str), (inner, plain), (inner, plainest)):
        named = [(simplified(name), param) for name, param in module.named_parameters()]
        known = {simplified(line.name): line for line in audit.lines}
        unique = len({name for name, _ in named}) == len(named) and len(known) == len(audit.lines)
        if unique and all(_fits(known.get(name), param) for name, param in named):
            return [(param, known[name]) for name, param in named]
    raise ValueError(_mismatch(inner, audit))


def _fits(line: Line | None, param: nn.Parameter) -> bool:
    return line is not None and line.shape == tuple(param.shape)


def _mismatch(model: nn.Module, audit: Audit) -> str:
    """The first weight that has no line of its name and shape."""
    known = {plainest(line.name): line for line in audit.lines}
    advice = "pass the model that was audited, or audit this one"
    for name, param in model.named_parameters():
        line = known.get(plainest(name))
        if line is None:
            return f"{plain(name)} is not in the audit: {advice}"
        if not _fits(line, param):
            shapes = f"{tuple(param.shape)}, but {line.shape} in the audit"
            return f"{plain(name)} has shape {shapes}: {advice}"
    return f"several weights have the same name in the model or in the audit: {advice}"
