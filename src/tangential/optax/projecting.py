"""`project`: the steps of any optax optimizer, projected."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tangential.functional import Amendment, amended, share_of_decay
from tangential.maths import DELTA, EPS
from tangential.optax.arrays import Number, check_numbers, for_each, integer, real, stored
from tangential.optax.weights import LAST, ONE, PerWeight, Weight
from tangential.radial import Rule, Setting, remove, rule_of

WdRatio = Number | Literal["matched"]

NEVER: Any = np.int64(0)  # see `weights.ONE`


class ProjectState(NamedTuple):
    """Steps taken, the state of the inner optimizer, and a rule's numbers per unit of a weight."""

    count: Any
    inner: Any
    units: Any


def project(
    inner: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    weight_decay: Number = 0.0,
    delta: Number = DELTA,
    wd_ratio: WdRatio = 0.1,
    eps: Number = EPS,
    beta: Number = 0.9,
    row_axis: Any = LAST,
    row_groups: Any = ONE,
    projection: Any = "auto",
    mask: Any = True,
    partition: Any = None,
    radial: Rule | str = "remove",
    latch: int = NEVER,
) -> optax.GradientTransformationExtraArgs:
    """Project the steps of any optax optimizer, as `tangential.project` does for torch.

    Where the gate fires, w <- (1 - lr wd wd_ratio) w + e - (e.w) w / (|w| + eps)^2, where e are the
    updates of `inner`; elsewhere w <- (1 - lr wd) w + e. `row_axis`, `row_groups`, `projection` and
    `partition` are each one value, a prefix of the tree of weights, or a function of a weight's
    path, such as "dense/kernel".

    Args:
        inner: A complete optimizer without weight decay.
        learning_rate: That of `inner`, a number or schedule; for weight decay and for most rules.
        weight_decay: Decoupled decay per unit of the learning rate.
        delta: The gate fires where |cos(weight, gradient)| < delta / sqrt(elements).
        wd_ratio: Share of the decay where the gate fires, or "matched": (1-beta)/(1+beta).
        eps: Floor of the norms.
        beta: Decay rate of the momentum of `inner`.
        row_axis: Axis along which the rows lie; in JAX, the outputs of a layer are last.
        row_groups: Consecutive rows that form one unit.
        projection: "auto" is the published gate; "row", "weight" and "off" are fixed choices.
        mask: Which weights decay, as in optax.add_decayed_weights.
        partition: PartitionSpecs of the weights inside shard_map. Elsewhere XLA knows them.
        radial: A rule of `tangential.radial`, or its name.
        latch: After so many steps, the gate always decides as at most of them; 0 for never.

    Raises:
        ValueError: names the option, its value and what is expected.

    >>> optimizer = project(optax.lion(0.1))
    >>> weights, gradients = jnp.array([[3.0], [4.0]]), jnp.array([[4.0], [-3.0]])  # orthogonal
    >>> updates, state = optimizer.update(gradients, optimizer.init(weights), weights)
    >>> [round(float(x), 4) for x in updates.ravel()]  # Lion alone moves by [-0.1, 0.1]
    [-0.112, 0.084]
    """
    options = Options.checked(
        weight_decay=weight_decay,
        delta=delta,
        wd_ratio=wd_ratio,
        eps=eps,
        beta=beta,
        weights=PerWeight(row_axis, row_groups, projection, mask, partition),
    )._replace(rule=rule_of(radial), latch=integer("latch", latch, least=0))
    return projected(inner, _rate(learning_rate, options), options)


class Options(NamedTuple):
    """The options of `project`, checked; `wd_ratio` is a number."""

    weight_decay: Number
    delta: Number
    wd_ratio: Number
    eps: Number
    beta: Number
    weights: PerWeight
    rule: Rule = remove()
    latch: int = 0

    @classmethod
    def checked(
        cls, *, weights: PerWeight, wd_ratio: WdRatio, beta: Any, **others: Any
    ) -> "Options":
        """The options, or a ValueError."""
        check_numbers(**others)
        check_numbers(below=1, beta=beta)
        ratio = share_of_decay(wd_ratio, beta)
        check_numbers(wd_ratio=ratio)
        return cls(weights=weights, wd_ratio=ratio, beta=beta, **others)

    def amendment(self, weight: Weight, lr: Any) -> Amendment:
        """How the steps of a weight are amended."""
        undecided = weight.units.projection == "auto" and not self.latch
        if weight.layout and self.rule.needs_decision and undecided:
            raise ValueError(
                'projection is "auto", but the rule `radial` needs units that are projected at '
                'every step or never: use projection="row" or "weight", or latch=100'
            )
        decay = self.weight_decay if weight.decays else 0.0
        setting = Setting(lr, decay, self.wd_ratio, self.beta, self.eps)
        return Amendment(weight.units, self.delta, setting, self.rule, self.latch)


def _rate(learning_rate: Any, options: Options) -> Any:
    """The learning rate, which may be missing if nothing depends on it."""
    if learning_rate is not None:
        if not callable(learning_rate):
            check_numbers(learning_rate=learning_rate)
        return learning_rate
    decays = isinstance(options.weight_decay, jax.Array) or options.weight_decay != 0
    if decays or options.rule.needs_decision:
        reason = "weight decay depends" if decays else "the rule `radial` depends"
        raise ValueError(
            f"learning_rate is missing, but {reason} on it: project(inner, learning_rate, ...)"
        )
    return 0.0


def projected(
    inner: optax.GradientTransformation, learning_rate: optax.ScalarOrSchedule, options: Options
) -> optax.GradientTransformationExtraArgs:
    """The transformation: amended updates of `inner`.

    A `learning_rate` of -1 stands for updates that will be multiplied by minus the learning rate.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> ProjectState:
        weights = options.weights.of(params, sharded=False)

        def zeros(w: jax.Array) -> tuple[dict[str, jax.Array]]:
            weight = next(weights)
            names = options.amendment(weight, 0.0).names
            layout, dtype = weight.layout, real(w).dtype
            return ({name: jnp.zeros(layout.units, dtype) for name in names} if layout else {},)

        (units,) = for_each(zeros, 1, params)
        return ProjectState(jnp.zeros((), jnp.int32), inner.init(params), units)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, ProjectState]:
        if params is None:
            raise ValueError("params is missing: the projection needs update(grads, state, params)")
        lr = learning_rate(state.count) if callable(learning_rate) else learning_rate
        weights = options.weights.of(params)
        changes, inner_state = inner.update(updates, state.inner, params, **extra)

        def amend(w: jax.Array, g: Any, e: Any, units: Any) -> tuple[jax.Array, Any]:
            weight = next(weights)
            return _amended(w, g, e, units, weight, options.amendment(weight, lr))

        changes, units = for_each(amend, 2, params, updates, changes, state.units)
        return changes, ProjectState(optax.safe_increment(state.count), inner_state, units)

    return optax.GradientTransformationExtraArgs(init, update)


def _amended(
    w: jax.Array, g: jax.Array, e: jax.Array, state: Any, weight: Weight, how: Amendment
) -> tuple[jax.Array, Any]:
    """The amended update of a weight in its dtype, and a rule's new numbers per unit."""
    # Otherwise XLA computes e again for every sum, and every sum again for its total.
    g, e = jax.lax.optimization_barrier((g, e))
    parts = weight.exchange.parts
    exchange = weight.exchange._replace(parts=lambda x: jax.lax.optimization_barrier(parts(x)))
    e, new = amended(jnp, real(w), real(g), real(e), state, weight.layout, how, exchange)
    return stored(e, w), {name: new[name].astype(state[name].dtype) for name in state}
