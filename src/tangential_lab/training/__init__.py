"""Training one model: a `Task` says what is trained, `Trial` is the loop that trains it.

task        what is trained; what identifies a trial
optimizers  the optimizers of a comparison, and their settings without a search
user_code   users' Python files as modules
batches     loads batches that depend only on the seed and the step
trial       the training loop; it uses curves, evaluation, checkpoint and distributed

Import `trial` and `distributed` where they are used: they load Accelerate, which takes seconds.
"""

from tangential_lab.training.batches import (
    ProcessShare,
    evaluation_batches,
    loader_processes,
    steps_per_epoch,
    training_batches,
    usable_cores,
)
from tangential_lab.training.curves import CLOCK_PARTS, MEAN_COLUMNS, Curves
from tangential_lab.training.optimizers import (
    ANALYSED_OPTIMIZERS,
    DEFAULT_OPTIMIZERS,
    FAMILIES,
    OPTIMIZERS,
    USER_COLOURS,
    OptimizerEntry,
    Space,
    check_given,
    recorded_angles,
    split_groups,
    untuned_point,
    user_optimizer,
)
from tangential_lab.training.task import (
    NO_HANDOVER,
    PHASE_NAMES,
    PHASES,
    Batch,
    DataSource,
    Handover,
    Metric,
    ParamGroups,
    Phase,
    Point,
    Record,
    Records,
    Spec,
    Split,
    Task,
    TensorSplit,
    TrialOptions,
    TrialStopped,
    class_balanced_batches,
    cosine_schedule,
    groups_with_lr_scale,
    shuffled_batches,
    single_group,
    trial_title,
)
from tangential_lab.training.user_code import describe_error, load_function, read_with_neighbours
