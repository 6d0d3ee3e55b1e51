"""AdamP and SGDP in timm's registry of optimizers."""

from importlib.util import find_spec

from tangential.optim import SGDP, AdamP

if not find_spec("timm"):
    raise ModuleNotFoundError("tangential.integrations.timm needs timm: pip install timm")
from timm.optim import OptimInfo
from timm.optim._optim_factory import default_registry

NAMES = ("tangential-adamp", "tangential-sgdp")  # timm ignores what precedes an underscore


def register() -> None:
    """Let timm build AdamP and SGDP as "tangential-adamp" and "tangential-sgdp".

    "adamp" and "sgdp" stay timm's own copies, with Nesterov momentum and, for AdamP, a `wd_ratio`
    of 0.01 by default.

    >>> import timm, torch
    >>> register()
    >>> optimizer = timm.optim.create_optimizer_v2(torch.nn.Linear(4, 2), "tangential-adamp")
    >>> type(optimizer).__module__, optimizer.defaults["wd_ratio"]
    ('tangential.optim.optimizers', 0.1)
    """
    known = default_registry.list_optimizers()
    for name, cls in zip(NAMES, (AdamP, SGDP), strict=True):
        if name not in known:
            default_registry.register(
                OptimInfo(
                    name=name,
                    opt_class=cls,
                    description=f"{cls.__name__} of the package tangential",
                    has_momentum=cls is SGDP,
                    has_betas=cls is AdamP,
                )
            )
