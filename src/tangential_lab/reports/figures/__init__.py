"""The figures of a report.

- `description`: a figure as plain data, from which pages and picture files are drawn
- `training`: figures of the test trials: scores, curves, growth, layers
- `analysis`: norms, effective steps and scores over epochs, with and without weight decay
- `tuning`: figures of the tuning trials
- `stills`: figures as PNG and SVG files, drawn by matplotlib
"""

from tangential_lab.reports.figures.analysis import analysis_figure
from tangential_lab.reports.figures.description import Axis, Figure, Panel, Series
from tangential_lab.reports.figures.stills import draw
from tangential_lab.reports.figures.training import study_figures

__all__ = ["Axis", "Figure", "Panel", "Series", "analysis_figure", "draw", "study_figures"]
