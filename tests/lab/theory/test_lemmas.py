"""The lemmas as properties: the checks that `tangential lemmas` prints, on random simulations."""

import math

import pytest
import torch
from hypothesis import given, settings
from simulations import SIMULATIONS, holds, simulated

from tangential import SGDP, AdamP
from tangential_lab.theory import claims, lemmas, steps
from tangential_lab.theory.claims import Simulation
from tangential_lab.theory.equilibria import EQUILIBRIA, equilibrium

by_rule = pytest.mark.parametrize("rule", ["SGDP", "AdamP"])


@simulated
def test_lemma_2_1(simulation):
    assert holds(lemmas.plain_norm(simulation))


@simulated
def test_lemma_2_2(simulation):
    assert holds(lemmas.momentum_norm(simulation))


@settings(max_examples=8)
@given(SIMULATIONS.filter(lambda simulation: simulation.beta <= 0.95))
@pytest.mark.slow
def test_corollary_2_3(simulation):
    assert holds(lemmas.momentum_growth(simulation))


def test_momentum_of_a_half_lengthens_thrice_as_fast():
    assert lemmas.momentum_growth(Simulation(beta=0.5)).claimed == 3
    assert lemmas.momentum_growth(Simulation(beta=0.0)).claimed == 1


@by_rule
@simulated
def test_norm_of_a_projected_decayed_step(rule, simulation):
    assert holds(steps.projected_norm(rule, simulation))


@by_rule
@simulated
def test_angle_of_a_projected_decayed_step(rule, simulation):
    assert holds(steps.projected_angle(rule, simulation))


@by_rule
@simulated
def test_projection_stays_on_the_great_circle(rule, simulation):
    assert holds(steps.great_circle(rule, simulation))


@by_rule
@pytest.mark.parametrize("check", ["projected_norm", "projected_angle", "great_circle"])
def test_checks_fail_where_a_step_goes_elsewhere(check, rule, monkeypatch):
    def build(weight, simulation):
        optimizer = {"SGDP": SGDP, "AdamP": AdamP}[rule]([weight], lr=simulation.lr, eps=0)
        optimizer.register_step_post_hook(lambda *_: weight.data[0].add_(0.01))
        return optimizer

    monkeypatch.setitem(steps.BUILDERS, rule, build)
    assert getattr(steps, check)(rule).error > 1e-4


@by_rule
@pytest.mark.parametrize("check", ["projected_norm", "projected_angle"])
def test_checks_fail_where_nothing_is_projected(check, rule, monkeypatch):
    build = steps.BUILDERS[rule]
    plain = lambda weight, simulation: build(weight, simulation._replace(projection="off"))
    monkeypatch.setitem(steps.BUILDERS, rule, plain)
    assert getattr(steps, check)(rule).error > 1e-5


def test_the_published_eps_leaves_a_small_radial_part(monkeypatch):
    """(|w| + eps)^2 leaves 2 eps / |w| of the radial part: small, but no lemma is exact then."""
    build = lambda weight, s: SGDP([weight], s.lr, s.beta, weight_decay=s.decay, eps=1e-5)
    monkeypatch.setitem(steps.BUILDERS, "SGDP", build)
    assert 1e-9 < steps.projected_norm("SGDP").error < 1e-6


def test_lemmas_of_momentum_fail_for_plain_descent(monkeypatch):
    monkeypatch.setattr(lemmas, "SGD", lambda w, lr, beta=0.9: torch.optim.SGD(w, lr, 0.5))
    assert lemmas.plain_norm().error > 1e-3
    assert lemmas.momentum_norm().error > 1e-3
    assert lemmas.momentum_growth().error > 1e-3


@pytest.mark.parametrize(
    ("values", "error"),
    [([2.0, 2.0], 0.0), ([2.0, 2.5], 0.25), ([math.nan, 2.5], math.nan), ([math.inf, 2], math.inf)],
)
def test_the_worst_case_has_the_largest_error(values, error):
    pair = (torch.tensor([2.0, 2.0]), torch.tensor(values))
    for cases in ([pair], [(torch.ones(3), torch.ones(3)), pair], [pair, pair]):
        found = claims.worst_case("name", "source", cases)
        assert found.error == pytest.approx(error, nan_ok=True)
        assert found.holds == (error == 0)


def test_error_is_absolute_where_nothing_is_claimed():
    zero = torch.zeros(2, dtype=torch.float64)
    assert claims.worst_case("name", "source", [(zero, zero + 1e-3)]).error == 1e-3


@pytest.fixture(scope="module")
def printed():
    return list(lemmas.all_lemmas())


@pytest.mark.slow
def test_all_hold_as_printed(printed):
    assert len(printed) == 3 + 2 * 3 + 4 * 2 + len(EQUILIBRIA)
    assert len({lemma.name for lemma in printed}) == len(printed)
    for lemma in printed:
        assert lemma.error < (1e-12 if lemma.exact else 0.02 if lemma.bound is None else 0.1), lemma
        assert lemma.holds


@pytest.mark.slow
def test_equilibria_are_the_published_formulas(printed):
    """At lr x decay = 1e-3 (SGD) and 1e-2 (Adam), beta .9."""
    claimed = [lemma.claimed for lemma in printed[-len(EQUILIBRIA) :]]
    squares = [2e-3 / 1.9, 2e-3 * 0.1 / 0.1, 2e-3 / 1.9, 2e-2 * 0.1 / 1.9, 2e-2 * 0.1, 2e-2 / 19]
    assert claimed == pytest.approx([math.sqrt(square) for square in squares])


ELSEWHERE = Simulation((16, 32), lr=0.3, beta=0.5, wd_ratio=0.3)


@pytest.mark.parametrize(
    ("name", "simulation"),
    [
        (
            "SGDP",
            Simulation((16, 32), lr=0.3, beta=0.5, decay=0.02, wd_ratio=0.3, steps=1500, seed=1),
        ),
        ("AdamP", Simulation((16, 32), lr=0.3, beta=0.5, decay=0.05, wd_ratio=0.3, steps=2000)),
    ],
)
@pytest.mark.slow
def test_equilibrium_elsewhere(name, simulation):
    lemma = equilibrium(name, simulation)
    assert lemma.holds, lemma


@pytest.mark.slow
def test_equilibrium_is_missed_without_projection(monkeypatch):
    usual = EQUILIBRIA["AdamP"]
    build = lambda weight, s: AdamP([weight], s.lr, weight_decay=s.decay, projection="off")
    monkeypatch.setitem(EQUILIBRIA, "AdamP", usual._replace(build=build))
    lemma = equilibrium("AdamP", usual.simulation._replace(steps=1000))
    assert lemma.error > 0.1
    assert not lemma.holds


@pytest.mark.parametrize("check", ["projected_norm", "projected_angle", "great_circle"])
def test_unknown_rule_is_named(check):
    with pytest.raises(ValueError, match="rule must be 'SGDP' or 'AdamP', got 'AdmP'"):
        getattr(steps, check)("AdmP")


def test_unknown_equilibrium_is_named():
    with pytest.raises(ValueError, match=r"name must be 'SGD, coupled decay' or .*, got 'Adam'"):
        equilibrium("Adam")
