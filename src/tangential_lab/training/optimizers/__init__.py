"""The optimizers of a comparison: the laboratory's entries, and the users' own.

entries          the laboratory's optimizers, and the parameter groups that a trial gives them
points           the settings at which an optimizer runs without a search
muon             Muon, and which weights are hidden matrices
rotation         the angles by which steps turn weights: recorded, or prescribed to AdamW
user_optimizers  optimizers from users' files and modules
"""

from tangential_lab.training.optimizers.entries import (
    ANALYSED_OPTIMIZERS,
    DEFAULT_OPTIMIZERS,
    FAMILIES,
    OPTIMIZERS,
    OptimizerEntry,
    Space,
    factory,
    split_groups,
)
from tangential_lab.training.optimizers.points import check_given, untuned_point
from tangential_lab.training.optimizers.rotation import (
    AngleRecorder,
    RescaledAdamW,
    angles_text,
    recorded_angles,
)
from tangential_lab.training.optimizers.user_optimizers import USER_COLOURS, user_optimizer
