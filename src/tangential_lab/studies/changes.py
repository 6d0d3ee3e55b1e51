"""What a new plan changes in a study whose earlier trials then do not count any more."""

from collections.abc import Iterator

from tangential_lab.studies.plan import Plan
from tangential_lab.training import Records

WORDS = {"source": "the code of the task or of the laboratory", "task": "the task"}


def outdated(old: Plan, new: Plan, records: Records) -> str:
    """A sentence on the finished trials that do not count under the new plan, and why; or "".

    Trials of optimizers that the new plan leaves out count again when they take part again.

    Args:
        old: The study's plan until now.
        new: Its next plan.
        records: The finished trials of the old plan.
    """
    lost = sum(s.optimizer in new.optimizers and old.key(s) != new.key(s) for s in records)
    if not lost:
        return ""
    trials = "1 finished trial does" if lost == 1 else f"{lost} finished trials do"
    return (
        f"{trials} not count any more, because the study has changed: "
        f"{'; '.join(_changes(old, new))}. They are kept, and count again if the study is started "
        "as before; to keep both, give the new study another name (--study NAME)"
    )


def _changes(old: Plan, new: Plan) -> Iterator[str]:
    """The values that determine results and that differ."""
    for name in ("task", "options", "data", "epochs", "analysis"):
        yield from _change(name, getattr(old, name), getattr(new, name))
    for name in dict.fromkeys([*old.settings, *new.settings]):
        yield from _change(name, old.settings.get(name), new.settings.get(name))
    for name, optimizer in old.optimizers.items():
        other = new.optimizers.get(name, optimizer)
        if (optimizer.source or other.source) and optimizer.about != other.about:
            yield f"the code of {name}"
    if any(o.leader for o in old.optimizers.values()) != any(
        o.leader for o in new.optimizers.values()
    ):
        yield "recorded angles"


def _change(name: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _change(key, old.get(key), new.get(key))
    elif old != new:
        yield WORDS.get(name) or f"{name} was {old}, is {new}"
