"""Numbers that summarize curves, searches and several studies."""

import math
from collections.abc import Iterator, Mapping, Sequence


def first_reached(times: Sequence[float], scores: Sequence[float], target: float) -> float:
    """When the score first reaches `target`, interpolated between evaluations; NaN if never.

    Args:
        times: Steps or seconds of the evaluations, rising.
        scores: Scores at these times; higher is better.
        target: The score to reach.

    >>> first_reached([10, 20], [0.5, 0.9], 0.7)
    15.0
    """
    for i, score in enumerate(scores):
        if score >= target:
            before = scores[i - 1] if i else score
            part = (target - before) / (score - before) if score > before else 1.0
            return times[i] - (1 - part) * (times[i] - times[i - 1]) if i else float(times[0])
    return math.nan


def best_of_k(scores: Sequence[float]) -> list[float]:
    """The expected best of k of these scores drawn without replacement, for k = 1, 2, ...

    In ascending order, the i-th of n is the best of comb(i - 1, k - 1) of comb(n, k) draws. Source:
    Dodge et al., "Show Your Work", 2019, there with replacement.

    >>> [round(x, 3) for x in best_of_k([0.0, 1.0, 2.0])]
    [1.0, 1.667, 2.0]
    """
    falling, n = sorted(scores, reverse=True), len(scores)
    return [math.fsum(_weighted(falling, k)) for k in range(1, n + 1)]


def _weighted(falling: Sequence[float], k: int) -> Iterator[float]:
    """Each score times the chance that it is the best of k; computed recursively."""
    n = len(falling)
    chance = k / n
    for rank, score in enumerate(falling[: n - k + 1], 1):
        yield chance * score
        chance *= (n - k + 1 - rank) / (n - rank) if rank < n else 0.0


def profile(costs: Mapping[str, Sequence[float]]) -> dict[str, list[tuple[float, float]]]:
    """For every optimizer the share of tasks on which its cost is within tau of the least cost.

    Source: Dolan and More, "Benchmarking optimization software with performance profiles", 2002.

    Args:
        costs: By optimizer, one value per task, in the same order; NaN for a task not solved.

    Returns:
        By optimizer the points (tau, share) where the share rises, from tau = 1 on.

    >>> profile({"a": [1.0, 6.0], "b": [2.0, 3.0]})
    {'a': [(1.0, 0.5), (2.0, 1.0)], 'b': [(1.0, 0.5), (2.0, 1.0)]}
    """
    tasks = zip(*costs.values(), strict=True)
    least = [min((c for c in task if c > 0), default=math.nan) for task in tasks]
    return {optimizer: _shares(values, least) for optimizer, values in costs.items()}


def _shares(costs: Sequence[float], least: Sequence[float]) -> list[tuple[float, float]]:
    taus = [cost / best for cost, best in zip(costs, least, strict=True)]
    steps = sorted({1.0, *(tau for tau in taus if 1 < tau < math.inf)})
    return [(tau, sum(x <= tau for x in taus) / len(taus)) for tau in steps]
