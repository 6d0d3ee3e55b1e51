"""Checks the options of `tangential compare`, and parses those that have a syntax of their own."""

from collections.abc import Collection, Sequence
from typing import Any

from tangential_lab import experiments
from tangential_lab.names import unknown_name
from tangential_lab.studies import StudyRequest


def default_name(task: str, options: dict[str, Any]) -> str:
    """The name of a study: its task, and the options that differ from the defaults."""
    defaults = {name: option.default for name, option in experiments.options(task).items()}
    chosen = {key: value for key, value in options.items() if value != defaults[key]}
    parts = [k if v is True else f"no-{k}" if v is False else str(v) for k, v in chosen.items()]
    return "-".join([task.rpartition(":")[2], *parts])


def check_sweep(request: StudyRequest) -> None:
    """Raise ValueError for a sweep without a search, or with test trials."""
    if request.sweep and not request.trials:
        raise ValueError("--sweep needs a search: give --trials 1 or more, got 0")
    if request.sweep and request.undecayed:
        raise ValueError(
            "--sweep has trials without weight decay already: leave out --undecayed, which adds "
            "them to a study with test seeds"
        )


def parse_sources(given: Sequence[str]) -> dict[str, str]:
    """Names and sources of the user's own optimizers."""
    sources: dict[str, str] = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not (name and equals and source):
            raise ValueError(f"--optimizer must be name=module:factory, got {text!r}")
        if name in sources:
            raise ValueError(f"two --optimizer have the name {name!r}: use different names")
        sources[name] = source
    return sources


def parse_baselines(given: Sequence[str], names: Collection[str]) -> dict[str, list[str]]:
    """Baselines by optimizer; `names` are those of the study."""
    chosen: dict[str, list[str]] = {}
    for text in dict.fromkeys(given):
        optimizer, _, baseline = text.partition("=")
        if not baseline or optimizer == baseline:
            raise ValueError(
                f"--baseline must be optimizer=another optimizer, such as adamp=adam, got {text!r}"
            )
        for name in (optimizer, baseline):
            if name not in names:
                raise ValueError(f"--baseline {text}: {unknown_name(name, names, 'optimizer')}")
        chosen.setdefault(optimizer, []).append(baseline)
    return chosen
