"""Training of one model: a `Task` says what is trained, `Trial` is the one loop that trains it.

The files `trial` and `distributed` load Accelerate (seconds): import them where you use them.
"""

from tangential_lab.training.batches import (
    ProcessShare,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from tangential_lab.training.clock import CLOCK_PARTS
from tangential_lab.training.cores import loader_processes, usable_cores
from tangential_lab.training.curves import MEAN_COLUMNS, Curves
from tangential_lab.training.optimizers import (
    DEFAULT_OPTIMIZERS,
    OPTIMIZERS,
    USER_COLOURS,
    OptimizerEntry,
    ParamGroups,
    Space,
    space_around,
    space_of,
    split_groups,
    untuned_point,
    user_optimizer,
)
from tangential_lab.training.records import PHASES, Point, Record, Records, Spec
from tangential_lab.training.source import describe_error, load_function
from tangential_lab.training.task import (
    Batch,
    DataSource,
    Metric,
    Split,
    Task,
    class_balanced_batches,
    cosine_schedule,
    groups_with_lr_scale,
    shuffled_batches,
    single_group,
)
from tangential_lab.training.tensors import TensorSplit

__all__ = [
    "CLOCK_PARTS",
    "DEFAULT_OPTIMIZERS",
    "MEAN_COLUMNS",
    "OPTIMIZERS",
    "PHASES",
    "USER_COLOURS",
    "Batch",
    "Curves",
    "DataSource",
    "Metric",
    "OptimizerEntry",
    "ParamGroups",
    "Point",
    "ProcessShare",
    "Record",
    "Records",
    "Space",
    "Spec",
    "Split",
    "Task",
    "TensorSplit",
    "class_balanced_batches",
    "cosine_schedule",
    "describe_error",
    "evaluation_batches",
    "groups_with_lr_scale",
    "load_function",
    "loader_processes",
    "shuffled_batches",
    "single_group",
    "space_around",
    "space_of",
    "split_groups",
    "steps_per_epoch",
    "training_batches",
    "untuned_point",
    "usable_cores",
    "user_optimizer",
]
