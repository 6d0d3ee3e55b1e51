"""What a monitor's logs say about a run: verdicts in words, and numbers to compare runs by.

- `runs`: loads a run from a file, a folder or rows, and finds its scale-invariant weights
- `criteria`: what can be wrong, with thresholds; `verdicts`: `diagnose`, which applies them
- `advice`: what to change after a verdict; `comparison`: two runs in words
- `wording`: the record `Verdict`, and how its numbers are written
"""

from tangential.monitor.diagnosis.advice import advice
from tangential.monitor.diagnosis.comparison import compare
from tangential.monitor.diagnosis.runs import Run, load
from tangential.monitor.diagnosis.verdicts import diagnose, figures
from tangential.monitor.diagnosis.wording import Verdict, fell, grew, multiple, percent

__all__ = [
    "Run",
    "Verdict",
    "advice",
    "compare",
    "diagnose",
    "fell",
    "figures",
    "grew",
    "load",
    "multiple",
    "percent",
]
