"""What a monitor's logs say about a run: verdicts in words, and numbers to compare runs by.

- `runs`: loads a run from a file, a folder or rows, and finds its scale-invariant weights
- `criteria`: what can be wrong, with thresholds; `verdicts`: `diagnose`, which applies them
- `wording`: the record `Verdict`, and how its numbers are written
"""

from tangential.monitor.diagnosis.runs import Run, load
from tangential.monitor.diagnosis.verdicts import diagnose, figures
from tangential.monitor.diagnosis.wording import Verdict, fell, fold, percent

__all__ = ["Run", "Verdict", "diagnose", "fell", "figures", "fold", "load", "percent"]
