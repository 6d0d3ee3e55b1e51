"""AdamP and SGDP: their rules, projected."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from tangential import maths
from tangential.functional import bias_corrections
from tangential.maths import DELTA, EPS
from tangential.optax.arrays import Number, check_numbers, for_each, real, stored, wide_like
from tangential.optax.projecting import Options, WdRatio, projected
from tangential.optax.weights import LAST, ONE, PerWeight


def adamp(  # noqa: D417
    learning_rate: optax.ScalarOrSchedule,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = EPS,
    weight_decay: Number = 0.0,
    delta: Number = DELTA,
    wd_ratio: WdRatio = 0.1,
    nesterov: bool = False,
    *,
    row_axis: Any = LAST,
    row_groups: Any = ONE,
    projection: Any = "auto",
    mask: Any = True,
    partition: Any = None,
    state_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamP, equal to `tangential.AdamP`: Adam with decoupled decay, projected.

    Source: Heo et al., "AdamP", ICLR 2021. Arguments not named here are those of `project`.

    Args:
        learning_rate: A number or a schedule.
        b1: Decay rate of the first moment, in [0, 1).
        b2: Decay rate of the second moment, in [0, 1).
        eps: Floor of Adam's denominator and of the norms in gate and projection.
        nesterov: Use Nesterov momentum.
        state_dtype: Keep the moments in this dtype at least, such as jnp.float32.

    Raises:
        ValueError: names the option, its value and what is expected.

    >>> optimizer = adamp(0.1)
    >>> weights, gradients = jnp.array([[3.0], [4.0]]), jnp.array([[4.0], [-3.0]])
    >>> updates, state = optimizer.update(gradients, optimizer.init(weights), weights)
    >>> weights = optax.apply_updates(weights, updates)
    >>> [round(float(x), 4) for x in weights.ravel()]  # optax.adamw ends at [2.9, 4.1]
    [2.888, 4.084]
    """
    check_numbers(below=1, b1=b1, b2=b2)
    options = Options.checked(
        weight_decay=weight_decay,
        delta=delta,
        wd_ratio=wd_ratio,
        eps=eps,
        beta=b1,
        weights=PerWeight(row_axis, row_groups, projection, mask, partition),
    )
    return _descent(_scale_by_adam(b1, b2, eps, nesterov, state_dtype), learning_rate, options)


def sgdp(  # noqa: D417
    learning_rate: optax.ScalarOrSchedule,
    momentum: Number = 0.0,
    dampening: Number = 0.0,
    weight_decay: Number = 0.0,
    nesterov: bool = False,
    eps: Number = EPS,
    delta: Number = DELTA,
    wd_ratio: WdRatio = 0.1,
    *,
    row_axis: Any = LAST,
    row_groups: Any = ONE,
    projection: Any = "auto",
    mask: Any = True,
    partition: Any = None,
    state_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """SGDP, equal to `tangential.SGDP`: SGD with momentum and decoupled decay, projected.

    The momentum starts at 0, so dampening acts on the first step too. Source: Heo et al., "AdamP",
    ICLR 2021. Arguments not named here are those of `adamp` and `project`.

    Args:
        momentum: Decay rate of the momentum, in [0, 1).
        dampening: Share of the gradient that is not added to the momentum.
        weight_decay: Decoupled decay per unit of the learning rate, divided by (1 - momentum).
        nesterov: Step along g + momentum p.

    Raises:
        ValueError: names the option, its value and what is expected.

    >>> weights = jnp.array([[3.0], [4.0]])
    >>> state = sgdp(optax.cosine_decay_schedule(0.1, 1000), momentum=0.9).init(weights)
    """
    check_numbers(below=1, momentum=momentum, dampening=dampening)
    options = Options.checked(
        weight_decay=weight_decay,
        delta=delta,
        wd_ratio=wd_ratio,
        eps=eps,
        beta=momentum,
        weights=PerWeight(row_axis, row_groups, projection, mask, partition),
    )
    options = options._replace(weight_decay=weight_decay / (1 - momentum))
    return _descent(_trace(momentum, dampening, nesterov, state_dtype), learning_rate, options)


def _descent(
    rule: optax.GradientTransformation, learning_rate: optax.ScalarOrSchedule, options: Options
) -> optax.GradientTransformationExtraArgs:
    """Steps by the projected updates of a rule, which do not include the learning rate yet."""
    if not callable(learning_rate):
        check_numbers(learning_rate=learning_rate)
    # projecting first saves XLA a pass over all updates
    uphill = projected(rule, -1.0, options)
    return optax.chain(uphill, optax.scale_by_learning_rate(learning_rate))


def _scale_by_adam(
    b1: Number, b2: Number, eps: Number, nesterov: bool, state_dtype: Any
) -> optax.GradientTransformation:
    """Adam's updates before the learning rate; the state is that of optax.scale_by_adam."""

    def init(params: Any) -> optax.ScaleByAdamState:
        mu, nu = _zeros(params, state_dtype), _zeros(params, state_dtype)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu, nu)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        count = optax.safe_increment(state.count)
        corrections = bias_corrections(jnp, count, (b1, b2))

        def advance(g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
            rule = {"betas": (b1, b2), "eps": eps, "nesterov": nesterov}
            new_m, new_v, u = maths.adam(jnp, real(g), real(m), real(v), corrections, **rule)
            return wide_like(u, g), stored(new_m, m), stored(new_v, v)

        us, mu, nu = for_each(advance, 3, updates, state.mu, state.nu)
        return us, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _trace(
    momentum: Number, dampening: Number, nesterov: bool, state_dtype: Any
) -> optax.GradientTransformation:
    """SGD's updates before the learning rate; the state is that of optax.trace."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.TraceState]:
        def advance(g: jax.Array, p: jax.Array) -> tuple[jax.Array, jax.Array]:
            rule = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
            new, u = maths.sgd(real(g), real(p), **rule)
            return wide_like(u, g), stored(new, p)

        us, trace = for_each(advance, 2, updates, state.trace)
        return us, optax.TraceState(trace)

    return optax.GradientTransformation(
        lambda params: optax.TraceState(_zeros(params, state_dtype)), update
    )


def _zeros(params: Any, state_dtype: Any) -> Any:
    def zeros(w: jax.Array) -> jax.Array:
        dtype = w.dtype if state_dtype is None else jnp.promote_types(w.dtype, state_dtype)
        return jnp.zeros_like(w, dtype=dtype)

    return jax.tree.map(zeros, params)
