"""What the kernels get: tables on the device, numbers, and what they are compiled for."""

from typing import NamedTuple

import triton.language as tl

TILE = tl.constexpr(2048)  # elements
UNITS = tl.constexpr(1024)  # inner products that `judge` reads at a time
GUESSED = tl.constexpr(4)  # rows that a guess looks at
# Where 1 - b is less, a wrong guess could not be undone exactly: `amend` moves such a row.
LEAST = tl.constexpr(0.5)

PROJECTIONS = ("auto", "row", "weight", "off")  # as indices in `Form`
ROUNDINGS = (None, "stochastic", "kahan")
AUTO, STOCHASTIC, KAHAN, OFF = (tl.constexpr(i) for i in range(4))
NONE, ROW, WEIGHT, UNKNOWN = (tl.constexpr(i) for i in range(4))  # decisions; UNKNOWN: no guess


class Tables(NamedTuple):
    """Arrays on the device, one entry per weight unless said otherwise."""

    params: object  # addresses: of the weights,
    grads: object  # their gradients,
    firsts: object  # m,
    seconds: object  # v,
    rests: object  # what rounding has lost, and
    counts: object  # the count of steps
    units: object  # number of units; of a weight that is never projected, of tiles
    unit_sizes: object  # elements of a unit
    sizes: object  # elements
    first_units: object  # index of the first unit in `sums`; < 0: never projected
    seeds: object  # hash of the weight's position in the optimizer
    tiles: object  # [tiles, 3]: weight, first unit, index of the unit size's class
    corrections: object  # [weights, 2]: Adam's bias corrections
    noise: object  # seed of this step's random bits
    guesses: object
    decisions: object
    coefs: object  # of whole weights
    amended: object  # whether `amend` has work to do
    sums: object  # [units, 5]: ww, gg, gw, uw, uu
    lr: object
    grad_scale: object
    found_inf: object


class Numbers(NamedTuple):
    """Options; of SGD, `beta1` and `take1` are the momentum and 1 - dampening."""

    lr: object
    beta1: object
    take1: object
    beta2: object
    take2: object
    log_beta1: object
    log_beta2: object
    eps: object
    decay: object
    wd_ratio: object
    delta: object


class Form(NamedTuple):
    """What the kernels are compiled for."""

    adam: bool
    nesterov: bool
    maximize: bool
    projection: int
    rounding: int
    watched: bool  # `sums` gets uu
    lr_on_device: bool
    scaled: bool  # there are `grad_scale` and `found_inf`
    weight: tl.dtype
    moment: tl.dtype
    lost: int  # bits of a float32 that the weight's dtype cannot keep
