"""Confidence intervals: of a few repeated measurements, of a ratio of sums, of a share. Pure."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the bounds around it; no bounds from a single measurement."""

    mean: float
    low: float | None
    high: float | None

    def bounds(self, form: str) -> str:
        """The two bounds in this format; empty where there are none."""
        return "" if self.low is None else f"{self.low:{form}} to {self.high:{form}}"

    def cells(self, form: str) -> tuple[str, str]:
        """The mean and its bounds, as a table has them."""
        return f"{self.mean:{form}}", self.bounds(form)


def t_interval(values: Sequence[float]) -> Interval:
    """mean ± t · s / √n, with n - 1 degrees of freedom."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    reach = t_quantile(LEVEL, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - reach, mean + reach)


def t_quantile(level: float, freedom: int) -> float:
    """The t that |T| stays below with this probability.

    >>> round(t_quantile(0.95, 2), 3)
    4.303
    """
    low, high = 0.0, math.pi / 2  # of arctan(t / √freedom)
    while high - low > 1e-15:
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, freedom) < level else (low, angle)
    return math.tan(low) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < t), t = √freedom · tan(angle): Abramowitz and Stegun 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for power in range(2 + odd, freedom - 1, 2):
        term *= (power - 1) / power * cosine * cosine
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float]
) -> tuple[float, float] | None:
    """The percentile bootstrap's interval of sum(numerators) / sum(denominators).

    Items are resampled with both of their numbers. None of fewer than two.
    """
    if len(numerators) < 2:
        return None
    above, below = np.asarray(numerators, float), np.asarray(denominators, float)
    random = np.random.default_rng(0)
    ratios = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = random.integers(0, len(above), len(above))
        ratios[index] = above[drawn].sum() / below[drawn].sum()
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return float(low), float(high)


def share_interval(share: float, number: int) -> tuple[float, float]:
    """Wilson's score interval of a share of `number` items, one or more.

    Of items that are shares themselves it is at least as wide as it need be: their variance is at
    most share * (1 - share).

    >>> [round(bound, 3) for bound in share_interval(0.9, 10)]
    [0.596, 0.982]
    """
    z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    root = math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    reach = z * root / (1 + z * z / number)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)
