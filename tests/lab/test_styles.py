"""Colours can be seen on light and dark paper, and told apart by everybody."""

from itertools import combinations

import made_study as made
import numpy as np
import pytest

from tangential_lab import styles
from tangential_lab.reports import report
from tangential_lab.studies import Plan, PlannedOptimizer
from tangential_lab.theory.toys import TOY_OPTIMIZERS
from tangential_lab.training import (
    ANALYSED_OPTIMIZERS,
    DEFAULT_OPTIMIZERS,
    OPTIMIZERS,
    USER_COLOURS,
)

COLOURS = [
    *(optimizer.colour for optimizer in OPTIMIZERS.values()),
    *USER_COLOURS,
    *(one.colour for some in TOY_OPTIMIZERS.values() for one in some.values()),
]


BLIND = {  # maps of linear red, green and blue (Machado et al. 2009, severity 1)
    "normal": np.eye(3),
    "red": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "green": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "blue": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def test_an_optimizer_has_its_colour_and_one_for_dark_paper(study):
    for name, optimizer in study.plan.optimizers.items():
        assert study.styles[name].colour == optimizer.colour
        assert styles.on_dark(optimizer.colour) == styles.on_dark(styles.on_dark(optimizer.colour))
    assert styles.on_dark("#332288") != "#332288"


def test_contrast_is_as_wcag_defines_it():
    assert styles.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert styles.contrast("#ffffff", "#56b4e9") == pytest.approx(2.31, abs=0.005)


@pytest.mark.parametrize("colour", sorted(set(COLOURS)))
def test_lines_can_be_seen_on_light_and_on_dark_paper(colour):
    assert styles.contrast(colour, "#ffffff") >= 3
    assert styles.on_light(colour) == colour
    assert styles.contrast(styles.on_dark(colour), "#15181c") >= 3


@pytest.mark.parametrize("colour", ["#56b4e9", "#e69f00", "#ffffff", "#ffff00"])
def test_a_users_faint_colour_is_darkened(colour):
    plan = made.plan({"x": PlannedOptimizer("m:f", "", None, colour, made.SPACES["sgd"], {})})
    assert styles.contrast(report(plan, {}).styles["x"].colour, "#ffffff") >= 3


def test_an_old_study_is_drawn_in_todays_colours():
    faint = made.OPTIMIZERS["sgd"]._replace(colour="#56b4e9")
    plan = made.plan({"sgd": faint, "sgdp": made.OPTIMIZERS["sgdp"]})
    assert report(plan, {}).styles["sgd"].colour == OPTIMIZERS["sgd"].colour


@pytest.mark.parametrize("cones", BLIND)
@pytest.mark.parametrize("paper", ["light", "dark"])
@pytest.mark.parametrize("names", [DEFAULT_OPTIMIZERS, ANALYSED_OPTIMIZERS])
def test_everybody_can_distinguish_the_default_optimizers(names, cones, paper):
    """At least 20 units of CIELAB; 2.3 units can just be seen."""
    drawn = [OPTIMIZERS[name].colour for name in names]
    drawn = [styles.on_dark(colour) for colour in drawn] if paper == "dark" else drawn
    seen = [lab(np.asarray(BLIND[cones]) @ linear(colour)) for colour in drawn]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


def linear(colour):
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    t = np.asarray(xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_a_text_that_is_not_a_colour_is_refused():
    plan = made.plan({"x": PlannedOptimizer("", "", None, "red;}", made.SPACES["sgd"], {})})
    with pytest.raises(ValueError, match=r"plan has a colour 'red;}', expected # and six digits"):
        Plan.of(plan.text())  # as every report reads it
