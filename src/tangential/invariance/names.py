"""The names of a model's weights without what wrappers add to them."""

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

# attributes under which torch.compile, activation checkpointing and FSDP keep the inner module
WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
PARALLEL = "module"  # DataParallel's; a model may have an attribute of that name, too


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


def plain(name: str) -> str:
    """A name without the parts that wrappers have added.

    >>> plain("encoder._orig_mod.0._checkpoint_wrapped_module.weight")
    'encoder.0.weight'
    """
    return _without(name, WRAPPED)


def plainest(name: str) -> str:
    """A plain name also without the parts that DataParallel has added.

    >>> plainest("module.encoder._orig_mod.0.weight")
    'encoder.0.weight'
    """
    return _without(name, (*WRAPPED, PARALLEL))


def _without(name: str, parts: tuple[str, ...]) -> str:
    return ".".join(part for part in name.split(".") if part not in parts)
