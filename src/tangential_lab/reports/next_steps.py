"""What to run after a study, as commands that can be copied."""

import shlex

from tangential_lab.studies import Plan


def next_steps(plan: Plan) -> dict[str, str]:
    """Commands after a sweep or an analysis, with the question that each answers."""
    audit = {
        "tangential audit torchvision:resnet50": "which weights of a model are scale-invariant"
    }
    if plan.sweep:
        return {
            _verdict(plan): "a verdict on fresh seeds",
            _command("analyse", plan): "norms, effective steps and scores over epochs",
            **audit,
            "tangential compare FILE.py:FUNCTION --sweep": "the same curves for your own task",
        }
    if plan.analysis:
        sweep = _command("compare", plan, "--sweep", "--trials", "9", "--seeds", "3")
        return {
            sweep: "scores over learning rates",
            **audit,
            "tangential analyse FILE.py:FUNCTION": "the same figure for your own task",
        }
    return {}


def _command(command: str, plan: Plan, *more: str) -> str:
    """A command on the task of a study, with its options and its length."""
    spelled = {True: "yes", False: "no"}
    options = [
        f"{name}={spelled[value] if isinstance(value, bool) else value}"
        for name, value in plan.options.items()
    ]
    words = ["tangential", command, plan.task, *(["--set", *options] if options else [])]
    return shlex.join([*words, "--epochs", f"{plan.epochs:g}", *more])


def _verdict(plan: Plan) -> str:
    """A study with test seeds, of the same task and optimizers as a sweep."""
    ours = [name for name, optimizer in plan.optimizers.items() if not optimizer.source]
    users = [f"{name}={o.source}" for name, o in plan.optimizers.items() if o.source]
    more = ["--optimizers", *ours, *(["--optimizer", *users] if users else [])]
    chosen = [f"{name}={b}" for name in plan.chosen_baselines for b in plan.baselines(name)]
    more += ["--baseline", *chosen] if chosen else []
    return _command("compare", plan, "--trials", "9", "--seeds", "8", *more)
