"""The plane to every known digit, the sphere to 3 %, with the library's own optimizers."""

import math

import pytest
import torch

from tangential import SGDP
from tangential_lab.theory import compare_with_paper, run_toy
from tangential_lab.theory.toys import OPTIMUM_3D, chart, cosine_2d, rosenbrock, rosenbrock_3d

# momentum, loss before step 50, norm after it, loss before step 499, norm after it
PRINTED = [
    ("gd", 0.0, "3.9999", "1.00", "0.0086", "1.02"),
    ("momentum", 0.9, "1.7578", "1.42", "0.0018", "2.93"),
    ("momentum", 0.95, None, None, "0.0043", "5.67"),
    ("momentum", 0.99, None, None, "0.0153", "27.87"),
    ("projected", 0.9, "1.3491", "1.07", "0.0000", "1.12"),
    ("projected", 0.95, None, None, "0.0000", "1.14"),
    ("projected", 0.99, None, None, "0.0000", "1.15"),
    ("buffer", 0.9, None, None, None, "1.17"),
    ("buffer", 0.95, None, None, None, "1.30"),
    ("buffer", 0.99, None, None, None, "1.81"),
]
BUILD = {
    "gd": lambda m: lambda w: torch.optim.SGD(w, lr=0.01),
    "momentum": lambda m: lambda w: torch.optim.SGD(w, lr=0.01, momentum=m),
    "projected": lambda m: lambda w: SGDP(w, lr=0.01, momentum=m),
    "buffer": lambda m: lambda w: SGDP(w, lr=0.01, momentum=m, project_buffer=True),
}


@pytest.mark.parametrize(("name", "momentum", "loss50", "norm50", "loss499", "norm499"), PRINTED)
@pytest.mark.slow
def test_the_2d_paths_equal_the_published_digits(name, momentum, loss50, norm50, loss499, norm499):
    path = cosine_2d(BUILD[name](momentum))
    assert f"{path.norms[500]:.2f}" == norm499
    for t, loss, norm in [(50, loss50, norm50), (499, loss499, norm499)]:
        if loss is not None:
            assert f"{path.losses[t]:.4f}" == loss
            assert f"{path.norms[t + 1]:.2f}" == norm


# norms at t = 0, 10, 25, 50 as the paper's figure has them
FIGURE = {
    "momentum": (1, 1.233, 1.893, 2.392),
    "decay": (1, 1.283, 2.09, 2.477),
    "projected": (1, 1.016, 1.036, 1.081),
    "buffer": (1, 1.016, 1.036, 1.081),
}
BUILD_3D = {
    "momentum": lambda w: torch.optim.SGD(w, lr=0.0549, momentum=0.9),
    "decay": lambda w: torch.optim.SGD(w, lr=0.0704, momentum=0.9, weight_decay=0.05),
    "projected": lambda w: SGDP(w, lr=0.0438, momentum=0.9),
    "buffer": lambda w: SGDP(w, lr=0.0438, momentum=0.9, project_buffer=True),
}


@pytest.fixture(scope="module")
def sphere():
    return {name: rosenbrock_3d(build) for name, build in BUILD_3D.items()}


@pytest.mark.parametrize("name", FIGURE)
@pytest.mark.slow
def test_the_3d_norms_are_within_3_percent_of_the_figure(name, sphere):
    assert sphere[name].norms[[0, 10, 25, 50]].tolist() == pytest.approx(FIGURE[name], rel=0.03)


class TestSphereAfterwards:
    """Past 30 steps the valley is chaotic: the shape is compared."""

    @pytest.mark.slow
    def test_momentum_is_long_and_the_projected_weight_is_not(self, sphere):
        last = {name: path.norms[-1].item() for name, path in sphere.items()}
        for projected in ("projected", "buffer"):
            assert 1 < last[projected] < 1.15
            assert last["momentum"] > 2.5 * last[projected]

    def test_norms_rise_then_decay_takes_them_back(self, sphere):
        norms = sphere["decay"].norms
        assert norms.max().item() == pytest.approx(2.53, rel=0.03)
        assert 35 <= norms.argmax() <= 50
        assert norms[-1] < 1.1
        for name in ("momentum", "projected", "buffer"):
            assert (sphere[name].norms[-50:].std() < 0.02).all()  # the learning rate has gone

    def test_all_optimizers_descend_the_valley(self, sphere):
        for path in sphere.values():
            assert path.losses[0].item() == pytest.approx(1209)
            psi, phi = chart(path.weights[-1])
            assert math.hypot(psi - 1, phi - 1) < 0.8
            assert abs(phi - psi**2) < 0.05


def test_projected_norms_grow_by_the_projected_steps_alone(sphere):
    """All that lengthens w is the square of its steps; with momentum alone that explains little."""
    for name, explained in [("projected", True), ("buffer", True), ("momentum", False)]:
        squares = sphere[name].norms.square()
        steps = sphere[name].weights.diff(dim=0).square().sum(1)
        assert torch.allclose(squares.diff(), steps, rtol=1e-5, atol=1e-9) == explained


def test_the_gradient_has_length_one_and_the_rate_falls_to_nothing():
    """Without momentum a step is as long as the learning rate."""
    path = rosenbrock_3d(lambda w: torch.optim.SGD(w, lr=0.04), steps=8)
    rates = [0.04 * (1 - t / 8) for t in range(8)]
    assert path.weights.diff(dim=0).norm(dim=1).tolist() == pytest.approx(rates)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("at", [(0.0, 0.0), (1.0, 1.0), (-2.0, 2.0), (4.0, -2.0)])
def test_the_chart_is_the_unrolled_sphere(at, scale):
    longitude, latitude = at[0] / 1.5, at[1] / 1.5
    point = torch.tensor(
        [
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        ],
        dtype=torch.float64,
    )
    assert [x.item() for x in chart(scale * point)] == pytest.approx(at, abs=1e-12)


def test_the_loss_is_least_at_the_optimum():
    psi, phi = torch.tensor(OPTIMUM_3D, dtype=torch.float64, requires_grad=True).unbind()
    loss = rosenbrock(psi, phi)
    assert loss == 0
    assert [g.item() for g in torch.autograd.grad(loss, [psi, phi])] == [0, 0]


@pytest.mark.parametrize("problem", [cosine_2d, rosenbrock_3d])
@pytest.mark.parametrize("steps", [0, -1])
def test_a_path_needs_at_least_one_step(problem, steps):
    with pytest.raises(ValueError, match=f"steps must be an integer >= 1, got {steps}"):
        problem(BUILD["gd"](0.0), steps)


@pytest.mark.slow
def test_comparison_measures_what_the_papers_figure_allows():
    """Paths that round to the same learning rate agree at first, and not at the end."""
    compared = [compare_with_paper(run) for run in run_toy("3d", [0.9]) if run.published]
    assert len(compared) == 3
    for one in compared:
        assert one.difference < 0.015
        assert len(one.apart) == 201
        assert one.apart[0] == 0
        assert one.apart[25] < 0.005
        assert one.apart[200] > 0.2
        assert max(one.nearby_distances) - min(one.nearby_distances) > 0.2


@pytest.mark.slow
def test_a_path_missing_in_the_paper_is_not_compared():
    [run] = [run for run in run_toy("3d", [0.5]) if run.name == "SGDP"]
    with pytest.raises(ValueError, match=r"the paper has no path of SGDP at momentum 0\.5"):
        compare_with_paper(run)
