"""How published trainings set optimizers."""

from typing import TypeAlias

from tangential_lab.training import Point

LrAndDecay: TypeAlias = tuple[float, float]  # learning rate, weight decay
# of tasks whose published table compares AdamP with Adam; AdamW, too, has AdamP's kind of decay
ADAM_AND_ADAMW = {"adamp": ("adamw", "adam")}


def untuned(*, sgd: LrAndDecay, adam: LrAndDecay, **others: LrAndDecay) -> dict[str, Point]:
    """The settings without tuning, by optimizer.

    `sgd` and `adam` are those of their whole families, except of the optimizers in `others`.
    """
    points = {"sgd": sgd, "adam": adam, **others}
    return {name: {"lr": lr, "weight_decay": decay} for name, (lr, decay) in points.items()}


def step_schedule(done: float, drops: tuple[float, ...]) -> float:
    """The factor of the learning rate after the share `done` of the training: a tenth per drop.

    >>> [step_schedule(done, drops=(0.5, 0.75)) for done in (0.4, 0.5)]
    [1.0, 0.1]
    """
    return 0.1 ** sum(done >= drop for drop in drops)
