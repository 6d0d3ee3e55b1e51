"""Options that differ between weights, and options that are refused."""

import subprocess
import sys

import jax.numpy as jnp
import optax
import pytest
from jax_steps import distance, streams, trained

from tangential.optax import adamp, project, sgdp
from tangential.radial import fixed_norm

NAMES = ("conv", "embedding", "bias")


@pytest.fixture
def training():
    """Weights by name, and 4 gradients of each, driven by rows of axis 0."""
    params, grads = streams(shapes=[(4, 6), (5, 3), (3,)], steps=4, row_axis=0)
    named = lambda xs: {"net": dict(zip(NAMES, xs, strict=True))}
    return named(params), [named(each) for each in grads]


def by_hand(training, options):
    """Every weight trained alone."""
    params, grads = training
    alone = lambda tree, name: tree["net"][name]
    return {
        "net": {
            name: trained(
                adamp(0.01, weight_decay=0.1, **options[name]),
                alone(params, name),
                [alone(each, name) for each in grads],
            )[0]
            for name in NAMES
        }
    }


@pytest.mark.parametrize(
    "given",
    [
        {"row_axis": {"net": {"conv": -1, "embedding": 0, "bias": -1}}},
        {"row_axis": lambda path: 0 if path == "net/embedding" else -1},
    ],
    ids=["tree", "path"],
)
@pytest.mark.slow
def test_row_axis_per_weight(given, training):
    params, grads = training
    actual, _ = trained(adamp(0.01, weight_decay=0.1, **given), params, grads)
    expected = by_hand(training, {"conv": {}, "embedding": {"row_axis": 0}, "bias": {}})
    assert distance(actual, expected) < 1e-12


@pytest.mark.slow
def test_all_other_options_per_weight(training):
    params, grads = training
    projection = lambda path: "off" if "conv" in path else "row"
    groups = {"net": {"conv": 1, "embedding": 3, "bias": 1}}
    mask = lambda tree: {"net": {name: x.ndim > 1 for name, x in tree["net"].items()}}
    options = {"projection": projection, "row_groups": groups, "mask": mask}
    actual, _ = trained(adamp(0.01, weight_decay=0.1, **options), params, grads)
    expected = by_hand(
        training,
        {
            "conv": {"projection": "off"},
            "embedding": {"projection": "row", "row_groups": 3},
            "bias": {"mask": False},
        },
    )
    assert distance(actual, expected) < 1e-12


@pytest.mark.parametrize("rows", [0, {"net": 0}, lambda path: 0])
@pytest.mark.slow
def test_none_in_the_tree_is_no_weight(rows, training):
    """Equinox has None in place of what is not trained."""
    params, grads = training
    with_none = lambda tree: {**tree, "activation": None, "more": (None, [None])}
    rows = with_none(rows) if isinstance(rows, dict) else rows
    optimizer = adamp(0.01, row_axis=rows)
    actual, _ = trained(optimizer, with_none(params), [with_none(each) for each in grads])
    assert distance(actual, trained(adamp(0.01, row_axis=0), params, grads)[0]) < 1e-12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adamp(-0.1), "learning_rate must be a finite number >= 0, got -0.1"),
        (lambda: adamp(0.1, b1=1.0), r"b1 must be a number in \[0, 1\), got 1.0"),
        (lambda: adamp(0.1, eps=float("nan")), "eps must be a finite number >= 0, got nan"),
        (lambda: adamp(0.1, delta="0.1"), "delta must be a finite number >= 0, got '0.1'"),
        (lambda: adamp(0.1, wd_ratio="same"), "wd_ratio must be .*, or \"matched\", got 'same'"),
        (lambda: sgdp(0.1, momentum=1), r"momentum must be a number in \[0, 1\), got 1"),
        (lambda: sgdp(0.1, weight_decay=-1), "weight_decay must be a finite number >= 0, got -1"),
        (lambda: project(optax.lion(0.1), -1), "learning_rate must be .*, got -1"),
        (
            lambda: project(optax.lion(0.1), weight_decay=0.1),
            "learning_rate is missing, but weight",
        ),
        (lambda: project(optax.lion(0.1), radial="relative"), "missing, but the rule `radial`"),
        (lambda: project(optax.lion(0.1), radial="removed"), "radial must be a rule"),
        (lambda: project(optax.lion(0.1), latch=-1), "latch must be an integer >= 0, got -1"),
    ],
)
def test_bad_options_are_refused_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_axis": 2}, r"row_axis is 2, but a weight has shape \(4, 6\): expected -2 to 1"),
        ({"row_axis": 1.5}, "row_axis must be an integer, got 1.5"),
        ({"row_groups": 5}, "row_groups is 5, but a weight of .* expected a divisor"),
        ({"row_groups": 0}, "row_groups must be an integer >= 1, got 0"),
        ({"projection": "rows"}, "projection must be 'auto' or .*, got 'rows'"),
        ({"projection": {"conv": "row"}}, "projection does not fit the tree of weights"),
        ({"row_axis": lambda path: path}, "row_axis must be an integer, got 'net/conv'"),
    ],
)
def test_options_that_do_not_fit_the_weights_are_refused_by_init(options, message):
    with pytest.raises(ValueError, match=message):
        adamp(0.1, **options).init({"net": {"conv": jnp.ones((4, 6))}})


def test_rules_that_need_a_decision_get_one():
    params = jnp.ones((4, 6))
    with pytest.raises(ValueError, match='projection is "auto", but the rule `radial` needs units'):
        project(optax.sgd(0.1), 0.1, radial=fixed_norm()).init(params)
    for options in ({"latch": 2}, {"projection": "weight"}, {"projection": "off"}):
        project(optax.sgd(0.1), 0.1, radial=fixed_norm(), **options).init(params)


def test_a_step_needs_the_weights():
    optimizer = adamp(0.1)
    state = optimizer.init(jnp.ones(3))
    with pytest.raises(ValueError, match="params is missing"):
        optimizer.update(jnp.ones(3), state)


@pytest.mark.slow
def test_runs_where_torch_is_not_installed():
    code = """
import sys
sys.modules["torch"] = None  # importing it fails
import jax.numpy as jnp
from tangential.optax import adamp
optimizer, weights = adamp(0.1), jnp.ones((3, 2))
updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
print(updates.shape)
import tangential
try:
    tangential.AdamP
except ImportError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[0] == "(3, 2)"
    assert "torch" in result.stdout.splitlines()[1]
