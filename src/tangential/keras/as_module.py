"""A model of Keras's torch backend as an ordinary torch module, for the audit."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import torch
from torch import nn


class KerasModule(nn.Module):
    """A model whose trainable variables are parameters, and whose other variables are buffers.

    Their names are the variables' paths. `training` is passed to the model, which ignores `train()`
    and `eval()`. A copy has its own variables and shares the model, which no call changes.

    Args:
        model: A built model or layer.
    """

    row_axis = -1  # of the gate: kernels of Keras have their outputs last

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not model.built:
            raise ValueError(f"the model {model.name!r} has no weights yet: call it on a batch")
        self.hidden = (model,)  # not registered as a submodule
        self.eps_share = 1.0  # the share of every layer's epsilon that is used
        self.train(getattr(model, "training", True))
        for variable in model.trainable_variables:
            self.register_parameter(variable.path, variable.value)
        for variable in model.non_trainable_variables:
            self.register_buffer(variable.path, variable.value.detach())

    def __deepcopy__(self, memo: dict[int, Any]) -> "KerasModule":
        copy = KerasModule(*self.hidden).train(self.training)
        for name, param in self.named_parameters():
            setattr(copy, name, nn.Parameter(param.detach().clone()))
        for name, buffer in self.named_buffers():
            setattr(copy, name, buffer.clone())
        return copy

    @property
    def signature(self) -> inspect.Signature:
        """The arguments of the model that a batch may have."""
        whole = inspect.signature(self.hidden[0].call)
        names = whole.parameters.keys() - {"training", "mask"}
        return whole.replace(parameters=[x for n, x in whole.parameters.items() if n in names])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the model for the values of this module; its buffers advance."""
        [model] = self.hidden
        state = model.non_trainable_variables
        tensors = [*self.parameters(), *self.buffers()]
        mapping = zip([*model.trainable_variables, *state], tensors, strict=True)
        mode = {"training": self.training} if model._call_has_training_arg else {}
        with self._smaller_epsilons(), keras.StatelessScope(list(mapping)) as scope:
            outputs = model(*args, **mode, **kwargs)
        with torch.no_grad():
            for buffer, variable in zip(self.buffers(), state, strict=True):
                after: Any = scope.get_current_value(variable)
                buffer.copy_(after)
        return outputs

    @contextmanager
    def _smaller_epsilons(self) -> Iterator[None]:
        layers = [x for x in self.hidden[0]._flatten_layers() if hasattr(x, "epsilon")]
        before = [layer.epsilon for layer in layers]
        try:
            for layer in layers:
                layer.epsilon *= self.eps_share
            yield
        finally:
            for layer, epsilon in zip(layers, before, strict=True):
                layer.epsilon = epsilon
