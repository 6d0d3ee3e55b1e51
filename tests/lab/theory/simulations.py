"""Random simulations, and what an exact lemma must do on them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tangential_lab.theory.claims import Simulation

SIMULATIONS = st.builds(
    Simulation,
    shape=st.tuples(st.integers(1, 6), st.integers(4, 40)),
    lr=st.floats(-1.5, 0.0).map(lambda e: 10**e),
    beta=st.sampled_from([0.0, 0.5, 0.9, 0.99]) | st.floats(0.1, 0.95),
    decay=st.floats(0.0, 0.01),
    wd_ratio=st.sampled_from([0.0, 0.1, 1.0, "matched"]),
    projection=st.sampled_from(["auto", "row", "weight"]),
    steps=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)


def simulated(test):
    """Run a test on 40 random simulations."""
    return pytest.mark.slow(settings(max_examples=40)(given(SIMULATIONS)(test)))


def holds(lemma):
    """Printed in full where it fails."""
    assert lemma.exact
    assert lemma.error < 1e-12, lemma
    return True
