"""The angles by which steps turn scale-invariant weights: recorded, or prescribed to AdamW.

A row, or a group of `row_groups` rows, is one unit: only its direction affects the model. With
AdamP's angles, AdamW turns every unit as far as AdamP does at the same step; which way it turns,
and everything else, stays AdamW's own. So if both then reach the same score, AdamP differs from
AdamW only by its schedule of rotation.
"""

import base64
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from tangential.backends import Rows, Units, rows_of
from tangential_lab.training.task import ParamGroups

LEAST_TANGENT = 1e-4  # of the radial part: less than that is rounding, which has no direction


class _Step(NamedTuple):
    """A step of a matrix, w+ = w + (radial / |w|) w + tangent, with lengths per unit [units]."""

    rows: Rows
    before: Tensor  # w
    norm: Tensor
    radial: Tensor  # > 0 if the unit grows
    tangent: Tensor  # of the weight's shape
    across: Tensor  # the length of the tangent

    @staticmethod
    def of(rows: Rows, before: Tensor, after: Tensor) -> "_Step":
        step = after.double() - before
        norm = rows.dot(before, before).sqrt()
        radial = torch.where(norm > 0, rows.dot(before, step) / norm, 0.0)
        tangent = step - rows.spread(torch.where(norm > 0, radial / norm, 0.0)) * before
        return _Step(rows, before, norm, radial, tangent, rows.dot(tangent, tangent).sqrt())

    @property
    def angles(self) -> Tensor:
        """By how much every unit turns [units], radians."""
        return torch.atan2(self.across, self.norm + self.radial)

    def rotated(self, angles: Tensor, norms: Tensor | None) -> Tensor:
        """The weight after this step, scaled per unit by the factor that gives it these angles.

        With `norms`, the units then get these norms. A unit that does not turn is not scaled.
        """
        tan, norm = angles.tan(), torch.where(self.norm > 0, self.norm, 1.0)
        turns = (self.norm > 0) & (self.across > LEAST_TANGENT * self.radial.abs())
        room = self.across - self.radial * tan
        factor = torch.where(turns & (room > 0), self.norm * tan / room, 0.0)
        scaled = torch.hypot(self.norm + factor * self.radial, factor * self.across)
        length = scaled if norms is None else norms
        along = torch.where(turns, length * angles.cos() / norm, 1 + self.radial / norm)
        across = torch.where(turns, length * angles.sin() / self.across, 1.0)
        return self.rows.spread(along) * self.before + self.rows.spread(across) * self.tangent


def _copy(param: Tensor) -> Tensor:
    return param.detach().to(torch.float64, copy=True)


def _rows(param: Tensor, group: dict[str, Any]) -> Rows:
    rows = rows_of(param, Units("row", 0, group.get("row_groups", 1)))
    assert rows is not None  # it is a matrix that is not empty
    return rows


def invariant_matrices(groups: ParamGroups) -> list[tuple[Tensor, dict[str, Any]]]:
    """The scale-invariant matrices, each with its group."""
    return [
        (param, group)
        for group in groups
        if group["scale_invariant"]
        for param in group["params"]
        if param.dim() > 1
    ]


class AngleRecorder:
    """Records the angle by which every step of an optimizer turns every unit.

    Args:
        optimizer: The optimizer.
        groups: Its parameter groups, with `scale_invariant`.
    """

    def __init__(self, optimizer: Optimizer, groups: ParamGroups) -> None:
        self.weights = invariant_matrices(groups)
        self.angles: list[Tensor] = []  # one per step [units], radians
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _before(self, *_: Any) -> None:
        self.copies = [_copy(param) for param, _ in self.weights]

    def _after(self, *_: Any) -> None:
        steps = [
            _Step.of(_rows(param, group), before, param.detach())
            for (param, group), before in zip(self.weights, self.copies, strict=True)
        ]
        self.angles.append(torch.cat([step.angles for step in steps]).float().cpu())
        self.copies = []


class RescaledAdamW(AdamW):
    """AdamW whose steps turn every scale-invariant unit by the angle that `angles` prescribes.

    A unit's whole step, decay included, is multiplied by the factor that gives this angle. Without
    angles, and for all other weights, it is AdamW.

    Args:
        groups: Parameter groups, with `scale_invariant`.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        retract: After each step, give every unit the norm that it had before the first one.
    """

    def __init__(
        self, groups: ParamGroups, lr: float, weight_decay: float, *, retract: bool = False
    ) -> None:
        super().__init__(groups, lr=lr, weight_decay=weight_decay)
        self.retract = retract
        self.angles: Tensor | None = None  # [steps, units], radians
        # hooks, so that those of a monitor, which are registered later, see the whole step
        self.register_step_pre_hook(self._copy_all)
        self.register_step_post_hook(self._rotate_all)

    def _copy_all(self, *_: Any) -> None:
        weights = [] if self.angles is None else invariant_matrices(self.param_groups)
        self.copies = [(p, group, _copy(p)) for p, group in weights]

    @torch.no_grad()
    def _rotate_all(self, *_: Any) -> None:
        first = 0
        for param, group, before in self.copies:
            rows = _rows(param, group)
            self._rotate(param, _Step.of(rows, before, param), slice(first, first + rows.units))
            first += rows.units
        self.copies = []

    def _rotate(self, param: Tensor, step: _Step, units: slice) -> None:
        state, norms = self.state[param], None
        if not state:  # it had no gradient
            return
        if self.retract:
            norms = state.setdefault("initial_norm", step.norm.to(param.dtype)).double()
        assert self.angles is not None
        angles = self.angles[int(state["step"]) - 1, units]
        param.copy_(step.rotated(angles.to(param.device, torch.float64), norms))


def angles_text(angles: list[Tensor]) -> str:
    """Recorded angles as text."""
    return base64.b64encode(torch.stack(angles).numpy().astype("<f4").tobytes()).decode()


def recorded_angles(text: str, steps: int) -> Tensor:
    """Angles [steps, units] of a text that `angles_text` returned."""
    flat = np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
    return torch.from_numpy(flat.reshape(steps, -1))
