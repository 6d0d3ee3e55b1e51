"""Reports of studies, as pages, pictures, tables and sentences.

- `study`: the report of one study, its page and its files; `overview`: several studies on one page
- `rows`: an optimizer's results and comparisons; `standings`: how they follow from trials
- `verdicts`: who leads; `sentences`: mechanism, cost, search, what to run next
- `analysis`: sentences of an analysis; `wording`: numbers as text
- `runs`: the page of monitored runs
- `figures`: figures as plain data, and as still pictures; `html`: pages; `tables`: CSV and Parquet
"""

from tangential_lab.reports.analysis import caveats
from tangential_lab.reports.html import error_page
from tangential_lab.reports.overview import write_overview
from tangential_lab.reports.rows import Row
from tangential_lab.reports.runs import write_runs
from tangential_lab.reports.standings import grid, multiples
from tangential_lab.reports.study import Report, page, report, write_report
from tangential_lab.reports.wording import (
    near_gap,
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
    "grid",
    "multiples",
    "near_gap",
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
