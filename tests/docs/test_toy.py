"""The toy of docs/why.md in a browser: the library's numbers, and pictures that follow sliders."""

import numpy as np
import pytest
from browser import tab
from torch.optim import SGD

from tangential import SGDP
from tangential_lab.theory.toys import TOY_OPTIMIZERS, cosine_2d

pytestmark = pytest.mark.slow

SETTINGS = [(lr, momentum) for lr in (0.001, 0.01, 0.1) for momentum in (0.0, 0.5, 0.9, 0.95, 0.99)]
NUMBERS = "(settings) => tangentialToy.follow(settings)"


@pytest.fixture
def page(chromium, address):
    with tab(chromium, address + "why/", site=address, drawn=False) as page:
        page.wait_for_selector("[data-toy][data-drawn]")
        yield page


@pytest.mark.parametrize("cls", [SGD, SGDP])
def test_its_numbers_are_the_librarys(page, cls):
    for lr, momentum in SETTINGS:
        settings = {"lr": lr, "momentum": momentum, "project": cls is SGDP}
        there = page.evaluate(NUMBERS, settings)
        here = cosine_2d(lambda weights, lr=lr, m=momentum: cls(weights, lr, m))
        for name in ("weights", "norms", "losses"):
            np.testing.assert_allclose(
                there[name], getattr(here, name), rtol=1e-9, atol=1e-9, err_msg=f"{settings} {name}"
            )


def test_pictures_and_table_follow_the_sliders(page):
    def cells():
        return page.locator("[data-toy] td").all_inner_texts()

    def paths():
        lines = page.locator("[data-toy] polyline:not(.plain)").all()  # SGD has no momentum
        return [line.get_attribute("points") for line in lines]

    assert cells() == ["1.02", "8.6e-3", "2.93", "1.8e-3", "1.12", "3.5e-5"]
    before = paths()
    assert len(before) == 6
    page.get_by_label("momentum").fill("0.99")
    assert cells()[2] == "27.87"
    assert not set(before) & set(paths())
    assert not any("NaN" in path for path in paths())
    page.get_by_label("learning rate").fill("-1")
    assert page.locator("[data-toy] output").all_inner_texts() == ["0.99", "0.10"]


def test_its_colours_are_those_of_the_laboratory(page):
    colour = "(toy, name) => getComputedStyle(toy).getPropertyValue(name)"
    toy, names = page.locator("[data-toy]"), ("--plain", "--momentum", "--projected")
    expected = [optimizer.colour for optimizer in TOY_OPTIMIZERS["2d"].values()]
    assert [toy.evaluate(colour, name) for name in names] == expected[:3]
