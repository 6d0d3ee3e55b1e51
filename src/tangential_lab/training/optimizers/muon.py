"""Muon for a model's hidden matrices, and AdamW for all other parameters, as one optimizer.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): the first and the last layer, and
everything that is no matrix, are left to AdamW; the kernel of a convolution is flattened to
[outputs, inputs * height * width].
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tangential_lab.training.task import ParamGroups

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # not transposed: their outputs are axis 1


def hidden_matrices(model: nn.Module, ends: Collection[str] | None = None) -> set[nn.Parameter]:
    """The weights of a model's linear layers and convolutions, except for its first and last ones.

    Weights that an embedding shares, and kernels of grouped convolutions, are left out.

    Args:
        model: The model.
        ends: Names of modules, all of whose weights are left out. None: its last linear layer or
            convolution, in the order of the modules, and the first one if it has no embedding.

    Raises:
        ValueError: the model has no module of such a name.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 9))
    >>> [name for name, p in model.named_parameters() if p in hidden_matrices(model)]
    ['1.weight']
    """
    modules = dict(model.named_modules())
    embedded = {m.weight for m in modules.values() if isinstance(m, nn.Embedding)}
    names = [name for name, module in modules.items() if isinstance(module, LAYERS)]
    if ends is None:
        ends = names[-1:] if embedded else (*names[:1], *names[-1:])
    if unknown := set(ends) - modules.keys():
        raise ValueError(f"ends must be names of the model's modules, got {sorted(unknown)}")
    inner = [n for n in names if not any(n == end or n.startswith(f"{end}.") for end in ends)]
    ungrouped = [modules[name] for name in inner if getattr(modules[name], "groups", 1) == 1]
    # a weight that is parametrized, as by weight norm, is no parameter
    weights = [dict(module.named_parameters(recurse=False)).get("weight") for module in ungrouped]
    return {weight for weight in weights if weight is not None} - embedded


class MuonAndAdamW(Optimizer):
    """torch's Muon for groups that are hidden, AdamW for the others, with the same settings.

    Muon's steps have AdamW's usual root mean square (Liu et al. 2025, arXiv:2502.16982): .2 lr.
    So both parts use one learning rate and one weight decay.

    Args:
        groups: Parameter groups with `hidden`, True or False, as of `split_groups`.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.

    Raises:
        ValueError: no group is hidden.
        ImportError: torch is older than 2.9.
    """

    def __init__(self, groups: ParamGroups, lr: float, weight_decay: float) -> None:
        from torch.optim import Muon

        if not any(group["hidden"] for group in groups):
            raise ValueError(
                "Muon needs a hidden matrix, got a model whose only linear layers and convolutions "
                "are the first and the last: leave muon out"
            )
        settings: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        stand_in = [nn.Parameter(torch.zeros(1, 1))]  # a step replaces it
        self.muon = Muon(stand_in, adjust_lr_fn="match_rms_adamw", **settings)
        self.adamw = AdamW(stand_in, **settings)
        defaults = {True: self.muon.defaults, False: self.adamw.defaults}
        super().__init__([defaults[group["hidden"]] | group for group in groups], settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        hidden = [group for group in self.param_groups if group["hidden"]]
        self.muon.param_groups = [g | {"params": [_matrix(p) for p in g["params"]]} for g in hidden]
        pairs = zip(_params(hidden), _params(self.muon.param_groups), strict=True)
        # the dicts of Muon's states are those of this optimizer
        states = {matrix: self.state[p] for p, matrix in pairs if p.grad is not None}
        self.muon.state = defaultdict(dict, states)
        self.muon.step()
        self.adamw.param_groups = [group for group in self.param_groups if not group["hidden"]]
        self.adamw.state = self.state
        self.adamw.step()
        return loss


def _params(groups: ParamGroups) -> list[Tensor]:
    return [param for group in groups for param in group["params"]]


def _matrix(param: Tensor) -> Tensor:
    """A view of a weight as a matrix with one row per output; its gradient has the same order."""
    order = [0, *sorted(range(1, param.dim()), key=param.stride, reverse=True)]
    matrix = param.detach().permute(order).view(len(param), -1)
    if param.grad is not None:
        matrix.grad = param.grad.permute(order).reshape(matrix.shape)
    return matrix
