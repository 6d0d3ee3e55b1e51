"""Figures as data, and the pictures that matplotlib draws of them."""

import math
from itertools import pairwise

import made_study as made
import pytest
from PIL import Image

from tangential_lab.reports import html, report
from tangential_lab.reports.figures import description, stills, study_figures, training
from tangential_lab.styles import LineStyle

PAIR = ("sgd", "sgdp")


def test_a_report_has_all_figures(study):
    keys = [figure.key for figure in study.figures]
    assert keys == [
        *("score", "score_time", "loss", "norm", "effective_step", "growth"),
        *("layers", "undecayed_norm", "undecayed_effective_step", "tuning", "budget"),
    ]
    for figure in study.figures:
        assert figure.description
        assert all(panel.x.title and panel.y.title for panel in figure.panels)


def test_a_band_is_mean_lowest_and_highest():
    result = description.band("a", [([0, 1], [1.0, 2.0]), ([0, 1], [3.0, 6.0])])
    assert result == description.Series("a", [0, 1], [2.0, 4.0], [1.0, 2.0], [3.0, 6.0])
    assert description.band("a", [([0, 1], [1.0, math.nan])]).y == [1.0]
    assert description.band("a", [([0, 1], [0.0, 1.0])], positive=True).x == [1]


def test_long_lines_are_thinned_by_means():
    result = description.band("a", [(range(1000), [float(i) for i in range(1000)])])
    assert len(result.x) == description.LINE_POINTS
    assert result.y[0] == result.x[0] == 2.0


def test_growth_is_summed_over_all_steps():
    record = {"curves": {"step": [9, 19, 39], "growth_step": [0.1, math.nan, 0.2]}}
    assert description.summed(*description.curve_of(record, "growth_step")) == (
        [9, 19, 39],
        [1.0, 1.0, 5.0],
    )


def test_diverged_trials_have_crosses_and_no_lines():
    plan = made.plan(PAIR, trials=5, undecayed=False)
    records = made.finished(plan, sgd={"diverged": [True] * 5, "score": [0.1] * 5})
    result = {figure.key: figure for figure in study_figures(plan, records)}
    assert [s.name for s in result["norm"].panels[0].series] == ["sgdp"]
    assert [s.diverged for s in result["tuning"].panels[0].series] == [[3], [3]]
    assert all(s.best != 3 for s in result["tuning"].panels[0].series)


def test_diverged_trials_do_not_set_the_scale(study):
    tuning = next(figure for figure in study.figures if figure.key == "tuning")
    for panel in tuning.panels:
        low, high = panel.y.limits
        assert 80 < low < high < 100  # they score 10 %
        for line in panel.series:
            assert all(low < line.y[i] < low + 0.05 * (high - low) for i in line.diverged)
            assert all(low < y < high for y in line.y)
    assert "at the worst end of the axis" in tuning.note


@pytest.mark.parametrize(
    ("part", "limits"),
    [(description.SECOND_HALF, (94.0, 96.0)), (description.BEFORE_THE_END, (10.0, 95.0))],
)
def test_a_part_of_the_training_sets_the_scale(part, limits):
    line = description.Series("a", [0, 40, 50, 80, 100], [10.0, 90.0, 94.0, 95.0, 96.0])
    low, high = description.fitted(description.Axis("accuracy"), [line], part).limits
    margin = 0.05 * (limits[1] - limits[0])
    assert (low, high) == pytest.approx((limits[0] - margin, limits[1] + margin))


def test_a_score_has_room_at_the_end_and_an_effective_step_before_it(study):
    figures = {figure.key: figure.panels[0] for figure in study.figures}
    score, step = figures["score"], figures["effective_step"]
    assert min(score.series[0].y) < score.y.limits[0] < 0.98 * max(score.series[0].y)
    assert min(line.low[-1] for line in step.series) < step.y.limits[0]


def test_heat_maps_share_their_colours_and_stay_small():
    names = [f"layer{i}.weight" for i in range(160)]
    plan = made.plan(seeds=1, trials=0, undecayed=False)
    records = made.finished(plan, names=names, logs=200)
    first = {spec.optimizer: [record] for spec, record in records.items()}
    figure = training.layer_figure(first)
    assert len({(p.heat.low, p.heat.high) for p in figure.panels}) == 1
    assert sum(len(p.heat.layers) * len(p.heat.x) for p in figure.panels) <= training.CELLS
    assert html.height_px(figure) == html.HEAT_HEIGHTS_PX[1]


def test_unknown_values_are_not_drawn(study):
    records = {
        spec: {**r, "layers": None, "curves": r["curves"] | {"growth_memory": [math.nan] * 60}}
        for spec, r in study.records.items()
    }
    result = {figure.key: figure for figure in study_figures(study.plan, records)}
    assert "layers" not in result
    assert [panel.title for panel in result["growth"].panels] == [
        "by the length of the steps",
        "by weight decay",
    ]


@pytest.mark.slow
def test_the_same_figure_gives_the_same_picture(study, tmp_path):
    kinds = [f for f in study.figures if f.key in ("norm", "layers", "tuning")]
    for figure in kinds:
        png, svg = stills.draw(figure, study.styles, tmp_path)
        picture = Image.open(png)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50
        assert svg.read_text().lstrip().startswith("<?xml")
        before = svg.read_bytes()
        assert stills.draw(figure, study.styles, tmp_path)[1].read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2 * len(kinds)


@pytest.mark.slow
def test_numbers_on_logarithmic_axes_do_not_overlap(study):
    from matplotlib import rc_context

    figure = next(figure for figure in study.figures if figure.key == "tuning")
    with rc_context(stills.STYLE):
        drawn = stills._canvas(figure, study.styles)
        drawn.draw_without_rendering()
        for place in drawn.axes:
            boxes = [mark.get_window_extent() for mark in place.get_xticklabels()]
            seen = [box for box in boxes if box.width]
            assert len(seen) > 3
            assert all(a.x1 < b.x0 for a, b in pairwise(seen))


@pytest.mark.slow
def test_names_in_pictures_are_not_read_as_mathematics(study, tmp_path):
    plan = made.plan({"_$\\frac$": made.OPTIMIZERS["sgd"]}, task="$", trials=3, undecayed=False)
    result = report(plan, made.finished(plan, names=["$\\x$", "_"]))
    for figure in result.figures:
        assert len(stills.draw(figure, result.styles, tmp_path)) == 2


@pytest.mark.parametrize("ends", [(2e-3, 3e-2), (3e-4, 9e-1), (1e-3, 4e-3)])
def test_labels_of_long_and_short_log_axes_do_not_overlap(ends):
    from matplotlib import rc_context

    axis, loss = description.Axis("lr", log=True), description.Axis("loss")
    series = description.Series("sgd", ends, (1, 2))
    figure = description.Figure("key", "title", "", [description.Panel("", axis, loss, [series])])
    with rc_context(stills.STYLE):
        drawn = stills._canvas(figure, {"sgd": LineStyle("#000000", False, 0)})
        drawn.draw_without_rendering()
        (place,) = drawn.axes
        marks = place.get_xticklabels(which="both")
        seen = [box for box in (mark.get_window_extent() for mark in marks) if box.width]
    low, high = place.bbox.x0, place.bbox.x1
    shown = sorted((box for box in seen if low <= box.x0 <= high), key=lambda box: box.x0)
    assert len(shown) >= 2
    assert all(a.x1 < b.x0 for a, b in pairwise(shown))
