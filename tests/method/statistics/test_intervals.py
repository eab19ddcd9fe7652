"""Student's t: published quantiles, and an interval worked by hand."""

import math

import pytest

from curate.pipeline.method.statistics.intervals import t_interval, t_quantile


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042),
     (120, 1.980)],
)  # fmt: skip
def test_the_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(quantile, abs=5e-4)


def test_other_levels() -> None:
    assert t_quantile(0.99, 4) == pytest.approx(4.604, abs=5e-4)
    assert t_quantile(0.5, 1) == pytest.approx(1.0, abs=1e-9)


def test_an_interval_by_hand() -> None:
    mean, low, high = t_interval([1.0, 2.0, 3.0])
    reach = 4.30265 / math.sqrt(3)  # s = 1
    assert (mean, low, high) == pytest.approx((2.0, 2 - reach, 2 + reach), abs=1e-4)
    assert t_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert t_interval([0.5]) == (0.5, None, None)
