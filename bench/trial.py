"""Where the time of a trial goes: forward, backward, step, evaluation, and everything else.

    python bench/trial.py [--task digits] [--set subject=events ...] [--epochs E] [--trials 6]

One thread, as a worker uses by default. Trials alternate between AdamW and AdamP with the published
options of the task; data sets come from --data or TANGENTIAL_DATA. One more trial, the first, warms
up and does not count.
"""

from pathlib import Path
from statistics import median

import torch
from timing import options_of

from tangential_lab import experiments as tasks
from tangential_lab.training import CLOCK_PARTS, OPTIMIZERS, Spec
from tangential_lab.training.trial import Trial, TrialOptions

ALTERNATING = ("adamw", "adamp")


def shares(task, optimizer, seed, epochs):
    """The share of each part in the time of a test trial, and its total seconds."""
    spec = Spec(optimizer, "test", seed, tuple(task.published["adam"].items()))
    run = TrialOptions(epochs or task.epochs, evaluations=task.evaluations, layers=True)
    seconds = Trial(task, OPTIMIZERS[optimizer], spec, run).train()["seconds"]
    return {part: seconds[part] / seconds["total"] for part in CLOCK_PARTS} | {
        "total": seconds["total"]
    }


def main():
    """Print the median share of every part."""
    parser = options_of(__doc__)
    parser.add_argument("--task", default="digits", choices=tasks.NAMES)
    parser.add_argument("--set", nargs="*", default=[], help="options of the task: name=value")
    parser.add_argument("--epochs", type=float, help="default: as many as the task has")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = tasks.make(options.task, options.data, tasks.parse_options(options.task, options.set))
    optimizers = [ALTERNATING[i % 2] for i in range(1 + options.trials)]
    measured = [
        shares(task, optimizer, seed, options.epochs) for seed, optimizer in enumerate(optimizers)
    ][1:]
    print(f"{task.about}; median of {options.trials} trials, one thread, torch {torch.__version__}")
    for part in CLOCK_PARTS:
        print(f"{part:12} {100 * median(x[part] for x in measured):6.1f} %")
    print(f"seconds      {median(x['total'] for x in measured):6.1f}")


if __name__ == "__main__":
    main()
