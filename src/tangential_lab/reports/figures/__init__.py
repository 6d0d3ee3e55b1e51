"""The figures of a report.

- `description`: a figure as plain data, from which a page and a still picture draw the same
- `training`: what a study's test trials give: scores, curves, growth, layers
- `tuning`: what its tuning trials give
- `stills`: figures as PNG and SVG files, drawn by matplotlib
"""

from tangential_lab.reports.figures.description import Axis, Figure, Panel, Series
from tangential_lab.reports.figures.stills import draw
from tangential_lab.reports.figures.training import study_figures

__all__ = ["Axis", "Figure", "Panel", "Series", "draw", "study_figures"]
