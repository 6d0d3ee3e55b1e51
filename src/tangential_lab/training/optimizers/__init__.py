"""The optimizers of a comparison.

entries  the laboratory's own optimizers, and search spaces
user     the user's optimizers, from a file or a module
"""

from tangential_lab.training.optimizers.entries import (
    DEFAULT_OPTIMIZERS,
    OPTIMIZERS,
    OptimizerEntry,
    Space,
    space_around,
    space_of,
    split_groups,
    untuned_point,
)
from tangential_lab.training.optimizers.user import USER_COLOURS, user_optimizer

__all__ = [
    "DEFAULT_OPTIMIZERS",
    "OPTIMIZERS",
    "USER_COLOURS",
    "OptimizerEntry",
    "Space",
    "space_around",
    "space_of",
    "split_groups",
    "untuned_point",
    "user_optimizer",
]
