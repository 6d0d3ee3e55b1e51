"""Statistics for few seeds.

- `inference`: intervals, tests and their smallest detectable difference
- `summaries`: when a target was reached, the best of k trials, performance profiles
"""

from tangential_lab.statistics.inference import (
    ALPHA,
    MIN_SEEDS,
    Interval,
    difference,
    equivalence_p,
    holm,
    interval,
    least_p,
    permutation_p,
    probability,
    ratio,
    smallest_detectable,
    standard_error,
)
from tangential_lab.statistics.summaries import best_of_k, first_reached, profile
