"""Several studies on one page."""

import csv
import math

import made_study as made

from tangential_lab.reports import report, write_overview
from tangential_lab.reports.overview import steps_to_target
from tangential_lab.reports.rows import Reach

PAIR = ("sgd", "sgdp")


def read(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_studies_together(study, tmp_path):
    plan = made.plan(metric=made.PERPLEXITY, task="language", undecayed=False, trials=1)
    other = report(plan, made.finished(plan))
    short = made.plan(task="audio")
    paths = write_overview([study, other, report(short, {})], tmp_path)
    text = paths[0].read_text()
    assert paths[0] == tmp_path / "report.html"
    assert (tmp_path / "figures" / "profile.svg").exists()
    assert "SGDP against SGD: leans ahead in 2 of 2 studies." in text
    assert "at the edge of its search: " in text
    assert "some seeds are not finished: audio" in text
    rows = read(tmp_path / "studies.csv")
    assert len(rows) == 2 * len(study.rows)
    assert {r["study"] for r in rows} == {"digits, preset mini", "language, preset mini"}


def test_optimizers_that_are_not_in_every_study_are_left_out_of_the_profile(study, tmp_path):
    plan = made.plan(PAIR, task="other")
    text = write_overview([study, report(plan, made.finished(plan))], tmp_path)[0].read_text()
    assert (
        "Left out, because they are not in every study: Adam, AdamW, AdamP, AdamP-matched." in text
    )


def test_a_study_is_solved_if_more_than_half_of_the_seeds_reach_the_target(study):
    def steps(there):
        reach = Reach(90.0, there, 5, sorted([50.0] * there + [math.inf] * (5 - there))[2])
        return steps_to_target(study.rows[0]._replace(steps=reach))

    assert steps(3) == 50
    assert math.isnan(steps(2))


def test_studies_of_one_name_are_numbered(study, tmp_path):
    text = write_overview([study, study], tmp_path)[0].read_text()
    assert "digits, preset mini (1)" in text
    assert "digits, preset mini (2)" in text
