"""The figures of a report.

- `description`: a figure as plain data, from which pages and picture files are drawn
- `training`: figures of the test trials: scores, curves, growth, layers
- `tuning`: figures of the tuning trials
- `stills`: figures as PNG and SVG files, drawn by matplotlib
"""

from tangential_lab.reports.figures.description import Axis, Figure, Panel, Series
from tangential_lab.reports.figures.stills import draw
from tangential_lab.reports.figures.training import study_figures

__all__ = ["Axis", "Figure", "Panel", "Series", "draw", "study_figures"]
