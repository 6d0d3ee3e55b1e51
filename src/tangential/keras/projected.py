"""The base of Keras's AdamP and SGDP: what Keras asks of an optimizer, and the projected step."""

from typing import Any

import keras

from tangential.checks import check_numbers
from tangential.functional import Amendment, Exchange, amended, share_of_decay
from tangential.keras.arrays import once, wide, xp
from tangential.keras.weights import DEFAULTS, layouts
from tangential.radial import Setting, remove

SHARED = ("epsilon", "delta", "wd_ratio", "nesterov", *DEFAULTS)


class Projected(keras.optimizers.Optimizer):
    """An optimizer of Keras whose steps are projected.

    A subclass has the options of its rule, by name, and the names of its state per variable.
    """

    rule_options: tuple[str, ...]
    buffers: tuple[str, ...]

    def __init__(self, learning_rate: Any, weight_decay: Any, own: dict[str, Any], **usual: Any):
        if isinstance(learning_rate, (int, float)):
            check_numbers(learning_rate=learning_rate)
            learning_rate = float(learning_rate)
        check_numbers(weight_decay=weight_decay or 0.0, epsilon=own["epsilon"], delta=own["delta"])
        check_numbers(wd_ratio=share_of_decay(own["wd_ratio"], 0.0))
        super().__init__(learning_rate, weight_decay=weight_decay, **usual)
        for name in self._names:
            setattr(self, name, own[name])

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.rule_options, *SHARED)

    @property
    def beta(self) -> float:
        """The decay rate of the momentum."""
        raise NotImplementedError

    @property
    def decay(self) -> float:
        """Decoupled weight decay per unit of the learning rate."""
        return self.weight_decay or 0.0

    def advanced(self, g: Any, state: list[Any]) -> tuple[Any, ...]:
        """The new state of a variable, and its update before the learning rate."""
        raise NotImplementedError

    def build(self, variables: list[Any]) -> None:
        """Create the state of every variable."""
        if self.built:
            return
        choices = {name: getattr(self, name) for name in DEFAULTS}
        self._units, self._layouts = layouts(variables, **choices)
        super().build(variables)
        self._buffers = self.add_optimizer_variables(variables, list(self.buffers))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take the step of one variable."""
        index = self._get_variable_index(variable)
        buffers = [buffer[index] for buffer in self._buffers]
        w, g, lr = wide(variable), wide(gradient), wide(learning_rate)
        *state, u = self.advanced(g, [wide(buffer) for buffer in buffers])
        g, e = once((g, -lr * u))
        decay = self.decay if self._use_weight_decay(variable) else 0.0
        ratio = share_of_decay(self.wd_ratio, self.beta)
        setting = Setting(lr, decay, ratio, self.beta, self.epsilon)
        how = Amendment(self._units[index], self.delta, setting, remove(), latch=0)
        change, _ = amended(xp, w, g, e, {}, self._layouts[index], how, Exchange(parts=once))
        for buffer, new in zip(buffers, state, strict=True):
            self.assign(buffer, new)
        self.assign(variable, w + change)

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Nothing: how much a weight decays depends on the gate, so it is part of the step."""

    def get_config(self) -> dict[str, Any]:
        """The arguments of this optimizer."""
        arguments = {name: getattr(self, name) for name in self._names}
        plain = {name: dict(x) if isinstance(x, dict) else x for name, x in arguments.items()}
        return super().get_config() | plain
