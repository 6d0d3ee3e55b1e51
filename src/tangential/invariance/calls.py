"""How a batch is passed to a model."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn


class Arguments(NamedTuple):
    """How a batch is passed to a model, and what of it the model's forward does not take."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    left_out: Sequence[Any] = ()


def arguments(model: nn.Module, batch: Any) -> Arguments:
    """A tuple as `model(*batch)`, a mapping as `model(**batch)`; what forward lacks is left out.

    A loader's batches hold labels, too: the last items of a tuple, or keys that forward does not
    know. The output is audited, so labels are not needed.

    Raises:
        TypeError: forward needs more than the batch has.

    >>> arguments(nn.Linear(2, 2), ["input", "label"]).left_out
    ['label']
    """
    if (signature := _signature(model)) is None:
        named = isinstance(batch, Mapping)
        return Arguments((), batch) if named else Arguments(batch, {})
    if isinstance(batch, Mapping):
        every = inspect.Parameter.VAR_KEYWORD in _kinds(signature)
        known = {k: x for k, x in batch.items() if every or k in signature.parameters}
        tries = [Arguments((), known, [key for key in batch if key not in known])]
    elif isinstance(batch, (tuple, list)):
        counts = range(len(batch), 0, -1)
        tries = [Arguments(batch[:count], {}, batch[count:]) for count in counts]
    else:
        return Arguments((batch,), {})
    for one in tries:
        try:
            signature.bind(*one.args, **one.kwargs)
        except TypeError:
            continue
        return one
    raise TypeError(
        f"a batch is a {type(batch).__name__} of {len(batch)} items, which does not fit "
        f"{type(model).__name__}.forward{signature}: "
        "pass what the model takes, as [(x,) for x, label in loader], or pass loss="
    )


def _signature(model: nn.Module) -> inspect.Signature | None:
    """That of forward, or of what torch.compile or DataParallel wraps; None of a traced one."""
    try:
        signature = inspect.signature(model.forward)
    except ValueError:
        return None
    if inspect.Parameter.VAR_POSITIONAL in _kinds(signature):
        for name in ("_orig_mod", "module"):
            if isinstance(wrapped := getattr(model, name, None), nn.Module):
                return _signature(wrapped)
    return signature


def _kinds(signature: inspect.Signature) -> set[Any]:
    return {parameter.kind for parameter in signature.parameters.values()}


def called(model: nn.Module, batch: Any) -> Any:
    """The outputs of a model on a batch, which may be a function of the model."""
    if not isinstance(batch, (tuple, list, Mapping)):
        return batch(model) if callable(batch) else model(batch)
    args, kwargs, _ = arguments(model, batch)
    try:
        return model(*args, **kwargs)
    except Exception as error:
        how = "**batch" if isinstance(batch, Mapping) else "*batch"
        error.add_note(
            f"A batch that is a {type(batch).__name__} is called as model({how}): if that is "
            "wrong, pass functions, as [lambda model: model(x) for x, label in loader], or loss="
        )
        raise
