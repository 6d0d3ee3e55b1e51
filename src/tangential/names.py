"""Names of weights without wrappers, short lists of names, and texts that are safe in a CSV."""

from collections.abc import Iterable

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

# Attributes in which torch.compile, activation checkpointing and FSDP hold the inner module.
WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
PARALLEL = "module"  # DataParallel's attribute; a model may use the same name

LISTED = 3  # names that a message shows
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet runs such a cell


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DataParallel and DistributedDataParallel.

    >>> model = nn.Linear(2, 2)
    >>> unwrapped(DataParallel(model)) is model
    True
    """
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, WRAPPED[0], None), nn.Module):
            model = inner
        else:
            return model


def unwrapped_name(name: str) -> str:
    """A weight's name without the parts that wrappers add.

    >>> unwrapped_name("encoder._orig_mod.0._checkpoint_wrapped_module.weight")
    'encoder.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPED)


def fully_unwrapped_name(name: str) -> str:
    """The name without wrappers, also without the part that DataParallel adds.

    >>> fully_unwrapped_name("module.encoder._orig_mod.0.weight")
    'encoder.0.weight'
    """
    return ".".join(part for part in unwrapped_name(name).split(".") if part != PARALLEL)


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are.

    >>> listed("abcde")
    'a, b, c and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def literal(text: str) -> str:
    """The text of a CSV cell; a quote in front keeps a spreadsheet from running a formula.

    >>> literal("=1+1"), literal("a=1")
    ("'=1+1", 'a=1')
    """
    return f"'{text}" if text.startswith(FORMULA) else text
