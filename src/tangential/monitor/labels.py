"""The labels of a model's weights, and their lines in an audit."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from tangential.invariance import Audit, Line
from tangential.names import listed, plain, plainest

Weights = dict[str, Tensor]
Lines = dict[str, Line]


def labels(model: nn.Module) -> dict[Tensor, str]:
    """The plain name of every weight in the order of the model; of a tied weight the first one."""
    return {param: plain(name) for name, param in model.named_parameters()}


def audited(model: nn.Module, trained: Iterable[Tensor], audit: Audit) -> Lines:
    """The lines of an audit by the labels of a model's weights.

    The audit may be of the model with or without its wrappers, of a module in it, or of a larger
    model that has it as a module. Weights outside the audited module have no line.

    Args:
        model: The monitored model.
        trained: The weights of the optimizer.
        audit: Its lines are matched by name and shape.

    Raises:
        ValueError: the audit lacks a trained weight or has another shape for it, or it fits
            several modules.
    """
    own = set(trained)
    for simplified in (plain, plainest):
        places = [*_places(_weights(model, simplified), _lines(audit, simplified), own)]
        if len(places) == 1:
            return {label: places[0][p] for p, label in labels(model).items() if p in places[0]}
        if places:
            raise ValueError(
                f"audit fits {len(places)} modules of the model equally: pass an audit of the model"
            )
    raise ValueError(_mismatch(model, own, audit))


def _weights(model: nn.Module, simplified: Callable[[str], str]) -> Weights:
    """The weights under all their names, since a tied one may have another name in the audit."""
    return {simplified(n): p for n, p in model.named_parameters(remove_duplicate=False)}


def _lines(audit: Audit, simplified: Callable[[str], str]) -> Lines:
    return {simplified(line.name): line for line in audit.lines}


def _places(weights: Weights, lines: Lines, trained: set[Tensor]) -> Iterator[dict[Tensor, Line]]:
    """The lines by weight; of each module that the audit fits, unless it fits the whole model."""
    found = _found(weights, lines)
    if trained & set(weights.values()) <= found.keys():
        yield found
        return
    for prefix in _prefixes(weights, next(iter(lines), "")):  # audited was a part of the model
        inside = _under(prefix, weights)
        found, own = _found(inside, lines), trained & set(inside.values())
        if own and own <= found.keys() and len({x.name for x in found.values()}) == len(lines):
            yield found
    for prefix in _prefixes(
        lines, next(iter(weights), "")
    ):  # the model is a part of the audited one
        found = _found(weights, _under(prefix, lines))
        if set(weights.values()) <= found.keys():
            yield found


def _found(weights: Weights, lines: Lines) -> dict[Tensor, Line]:
    return {
        param: lines[name]
        for name, param in weights.items()
        if name in lines and lines[name].shape == tuple(param.shape)
    }


def _prefixes(names: Iterable[str], last: str) -> list[str]:
    """What stands before `last` in names that end with it as a whole."""
    return [name.removesuffix(last) for name in names if name.endswith(f".{last}")]


def _under(prefix: str, named: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): x for k, x in named.items() if k.startswith(prefix)}


def _mismatch(model: nn.Module, trained: set[Tensor], audit: Audit) -> str:
    lines = _lines(audit, plain)
    missing = [
        f"{name} {tuple(param.shape)}"
        for param, name in labels(model).items()
        if param in trained and (name not in lines or lines[name].shape != tuple(param.shape))
    ]
    has = listed(f"{name} {line.shape}" for name, line in lines.items())
    return (
        f"audit must be of this model: it has no line for {listed(missing)}; "
        f"it has {has or 'no weight'}"
    )
