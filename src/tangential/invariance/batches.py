"""The batches that an audit takes, and how a model is called with a batch."""

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils import _pytree as pytree

FROM_LOADER = 3  # batches that are taken from a loader, which may hold a whole data set


def first_batches(batches: Iterable[Any]) -> list[Any]:
    """All batches of a list, or the first ones of a loader; an error if there is none."""
    if isinstance(batches, (Tensor, Mapping, str)) or not isinstance(batches, Iterable):
        kind = type(batches).__name__
        raise TypeError(f"batches must be an iterable of batches, got an object of type {kind}")
    taken = list(batches if isinstance(batches, Sequence) else islice(batches, FROM_LOADER))
    if not taken:
        raise ValueError("batches must hold at least one batch, got none")
    return taken


def without_history(tree: Any) -> Any:
    """The tree with every tensor detached: otherwise backward would enter its graph."""

    def leaf(x: Tensor) -> Tensor:
        x = x.clone() if x.is_inference() else x
        return x.detach().requires_grad_(x.requires_grad)

    return pytree.tree_map_only(Tensor, leaf, tree)


def module_of(model: Any, advice: str = "") -> nn.Module:
    """The model; a model of Keras as a module that passes on its training mode.

    Raises a TypeError, which ends with `advice`, if it is neither.
    """
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Layer):
        if (backend := keras.backend.backend()) != "torch":
            raise TypeError(
                f"model must be of Keras's torch backend, got {model.name!r} of {backend!r}: "
                "set the environment variable KERAS_BACKEND to torch"
            )
        from tangential.keras.as_module import KerasModule

        return KerasModule(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {shown(model)}{advice}")
    return model


def shown(given: Any) -> str:
    """What was given, in an error message."""
    return "None" if given is None else f"an object of type {type(given).__name__}"


class Arguments(NamedTuple):
    """The arguments of a forward, and the items of the batch that it does not take."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    left_out: Sequence[Any] = ()


def arguments(model: nn.Module, batch: Any) -> Arguments:
    """Split a batch for `model(*batch)` or `model(**batch)` into what forward takes and the rest.

    The batches of a loader often have labels, which forward does not take. The audit looks at
    outputs and needs no labels. If forward needs more than the batch has, TypeError is raised.

    >>> arguments(nn.Linear(2, 2), ["input", "label"]).left_out
    ['label']
    """
    if not isinstance(batch, (tuple, list, Mapping)):
        return Arguments((batch,), {})
    signature = _signature(model)
    if signature is None:
        return Arguments((), batch) if isinstance(batch, Mapping) else Arguments(batch, {})
    if isinstance(batch, Mapping):
        takes_all = inspect.Parameter.VAR_KEYWORD in _kinds(signature)
        known = {k: x for k, x in batch.items() if takes_all or k in signature.parameters}
        options = [Arguments((), known, [key for key in batch if key not in known])]
    else:
        counts = range(len(batch), 0, -1)
        options = [Arguments(batch[:count], {}, batch[count:]) for count in counts]
    for option in options:
        try:
            signature.bind(*option.args, **option.kwargs)
        except TypeError:
            continue
        return option
    raise TypeError(
        f"a batch is a {type(batch).__name__} of {len(batch)} items, which does not fit "
        f"{type(model).__name__}.forward{signature}: "
        "pass what the model takes, such as [(x,) for x, label in loader], or pass loss="
    )


def _signature(model: nn.Module) -> inspect.Signature | None:
    """The signature of forward, of the inner model if there is a wrapper; None if traced."""
    if (signature := getattr(model, "signature", None)) is not None:  # of a model of Keras
        return signature
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


def left_out_note(model: nn.Module, batch: Any) -> str:
    """A note about the items of a batch that the model does not take; "" if it takes all."""
    if not (left_out := arguments(model, batch).left_out):
        return ""
    if isinstance(batch, Mapping):
        names = ", ".join(left_out)
        return f"Left out of each batch, because the model does not take them: {names}."
    return (
        f"The model takes the first {len(batch) - len(left_out)} of the {len(batch)} items of each "
        "batch; the rest (labels?) was left out."
    )


def output(model: nn.Module, batch: Any) -> Any:
    """The output of a model for a batch, which may be a function of the model."""
    if not isinstance(batch, (tuple, list, Mapping)):
        return batch(model) if callable(batch) else model(batch)
    args, kwargs, _ = arguments(model, batch)
    try:
        return model(*args, **kwargs)
    except Exception as error:
        call = "model(**batch)" if isinstance(batch, Mapping) else "model(*batch)"
        error.add_note(
            f"A batch that is a {type(batch).__name__} is called as {call}. If that is wrong, "
            "pass functions, such as [lambda model: model(x) for x, label in loader], or loss="
        )
        raise
