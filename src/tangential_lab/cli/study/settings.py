"""The options --lr and --weight-decay: settings in place of published ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from tangential_lab.cli.parameters import Many
from tangential_lab.training import FAMILIES, Point


@Parameter(name="*")
@dataclass(frozen=True)
class GivenSettings:
    """Settings in place of the task's published ones, for studies without a search.

    Args:
        lr: Learning rates in place of the published ones: a number for all optimizers, or
            NAME=NUMBER for an optimizer or a family, such as sgd=0.1 adamp=1e-3. The family sgd
            has SGD and SGDP, adam has Adam, AdamW and AdamP.
        weight_decay: Weight decays in place of the published ones, written in the same way.
    """

    lr: Annotated[tuple[str, ...], Many] = ()
    weight_decay: Annotated[tuple[str, ...], Many] = ()

    def points(self) -> dict[str, Point]:
        """The settings by optimizer or family; ValueError if one is not written as above."""
        points: dict[str, Point] = {}
        for setting, texts in ("lr", self.lr), ("weight_decay", self.weight_decay):
            option = f"--{setting.replace('_', '-')}"
            for name, value in _numbers(option, texts).items():
                points.setdefault(name, {})[setting] = value
        return points


NOTHING_GIVEN = GivenSettings()


def _numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if name in numbers or bool(equals) != bool(name):
            raise ValueError(f"{option} must name every optimizer once, got {' '.join(texts)}")
        try:
            numbers[name] = float(number)
        except ValueError:
            raise ValueError(f"{option} must be a number or NAME=NUMBER, got {text!r}") from None
    if "" in numbers:
        everywhere = numbers.pop("")
        numbers = dict.fromkeys(FAMILIES, everywhere) | numbers
    return numbers
