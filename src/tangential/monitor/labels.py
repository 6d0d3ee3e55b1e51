"""The labels of a model's weights, and what an audit says about each."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from tangential.invariance import Audit, Line
from tangential.names import fully_unwrapped_name, listed, unwrapped_name

Weights = dict[str, Tensor]
Lines = dict[str, Line]
Matches = dict[Tensor, Line]


def labels(model: nn.Module) -> dict[Tensor, str]:
    """Every weight's plain name, in the order of the model; a tied weight has its first name."""
    return {param: unwrapped_name(name) for name, param in model.named_parameters()}


def audit_lines(model: nn.Module, trained: Iterable[Tensor], audit: Audit) -> Lines:
    """The lines of an audit, matched by name and shape, by the labels of a model's weights.

    The audit may be of the model with or without its wrappers, of a module in it, or of a larger
    model that contains it. Weights outside the audited module have no line.

    Raises:
        ValueError: the audit lacks a trained weight or has another shape for it, or it fits
            several modules.
    """
    trained = set(trained)
    for simplified in (unwrapped_name, fully_unwrapped_name):
        # by all their names, since a tied weight may have another name in the audit
        named = model.named_parameters(remove_duplicate=False)
        weights: Weights = {simplified(name): param for name, param in named}
        lines = {simplified(line.name): line for line in audit.lines}
        fits = [*_fits(weights, lines, trained)]
        if len(fits) == 1:
            return {label: fits[0][p] for p, label in labels(model).items() if p in fits[0]}
        if fits:
            raise ValueError(
                f"audit fits {len(fits)} modules of the model equally: pass an audit of the model"
            )
    raise ValueError(_mismatch(model, trained, audit))


def _fits(weights: Weights, lines: Lines, trained: set[Tensor]) -> Iterator[Matches]:
    """The lines by weight: for the whole model, or else for each module that fits the audit."""
    matches = _matches(weights, lines)
    if trained & set(weights.values()) <= matches.keys():
        yield matches
        return
    for prefix in _prefixes(weights, next(iter(lines), "")):  # a module of the model was audited
        module = _inside(prefix, weights)
        matches, in_module = _matches(module, lines), trained & set(module.values())
        complete = len({line.name for line in matches.values()}) == len(lines)
        if in_module and in_module <= matches.keys() and complete:
            yield matches
    for prefix in _prefixes(lines, next(iter(weights), "")):  # a larger model was audited
        matches = _matches(weights, _inside(prefix, lines))
        if set(weights.values()) <= matches.keys():
            yield matches


def _matches(weights: Weights, lines: Lines) -> Matches:
    return {
        param: lines[name]
        for name, param in weights.items()
        if name in lines and lines[name].shape == tuple(param.shape)
    }


def _prefixes(names: Iterable[str], end: str) -> list[str]:
    """The prefixes of those names that end with `.end`."""
    return [name.removesuffix(end) for name in names if name.endswith(f".{end}")]


def _inside(prefix: str, named: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): x for k, x in named.items() if k.startswith(prefix)}


def _mismatch(model: nn.Module, trained: set[Tensor], audit: Audit) -> str:
    lines = {unwrapped_name(line.name): line for line in audit.lines}
    missing = [
        f"{name} {tuple(param.shape)}"
        for param, name in labels(model).items()
        if param in trained and (name not in lines or lines[name].shape != tuple(param.shape))
    ]
    known = listed(f"{name} {line.shape}" for name, line in lines.items())
    return (
        f"audit must be of this model: it has no line for {listed(missing)}; "
        f"it has {known or 'no weight'}"
    )
