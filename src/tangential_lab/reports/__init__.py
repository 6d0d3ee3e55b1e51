"""Reports of studies, as pages, pictures, tables and sentences.

- `study`: the report of one study, its page and its files; `overview`: several studies on one page
- `standings`: each optimizer's results and its comparison with its baseline; `statistics`
- `verdicts`: who leads; `sentences`: mechanism, cost, search; `wording`: numbers as text
- `analysis`: sentences of an analysis; `next_steps`: what to run after a study
- `grid`: the scores of a sweep, as a table
- `runs`: the page of monitored runs
- `figures`: figures as plain data, and as still pictures; `html`: pages; `tables`: CSV and Parquet
"""

from tangential_lab.reports.analysis import caveats
from tangential_lab.reports.grid import grid, multiples
from tangential_lab.reports.html import error_page
from tangential_lab.reports.overview import write_overview
from tangential_lab.reports.rows import Row
from tangential_lab.reports.runs import write_runs
from tangential_lab.reports.study import Report, page, report, write_report
from tangential_lab.reports.wording import (
    gap,
    near_score,
    number,
    score,
    setting,
    settings,
    unsigned_zero,
)
from tangential_lab.statistics import Interval

__all__ = [
    "Interval",
    "Report",
    "Row",
    "caveats",
    "error_page",
    "gap",
    "grid",
    "multiples",
    "near_score",
    "number",
    "page",
    "report",
    "score",
    "setting",
    "settings",
    "unsigned_zero",
    "write_overview",
    "write_report",
    "write_runs",
]
