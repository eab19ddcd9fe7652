"""Summaries against other libraries and hand-worked examples."""

import statistics

import numpy as np
import pyarrow as pa
import pytest

from curate.pipeline.reporting.numbers.summaries import (
    counted,
    distinct_2,
    distribution,
    frame,
    histogram,
    linear_edges,
    log_edges,
    number_of_records,
    numbers,
)


def test_a_distribution() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    found = distribution(np.array(values), limit=4.0)
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    assert (found.count, found.above) == (8, 4)
    assert found.mean == statistics.fmean(values)
    of = (found.p5, found.p25, found.median, found.p75, found.p95)
    assert of == pytest.approx((cuts[0], cuts[4], cuts[9], cuts[14], cuts[18]))


def test_nothing_is_a_distribution_of_nothing() -> None:
    found = distribution(numbers(pa.array([None, None], pa.float64())), 1.0)
    assert (found.count, found.mean, found.median, found.above) == (0, None, None, 0)


def test_a_histogram_loses_nothing() -> None:
    groups = {"a": np.array([0.0, 0.1, 5.0]), "b": np.array([-1.0, 0.2])}
    found = histogram(groups, np.array([0.0, 0.15, 0.3]))
    assert {k: v.tolist() for k, v in found.counts.items()} == {"a": [2, 0], "b": [1, 1]}
    assert found.beyond == {"a": 1, "b": 0}


def test_axes() -> None:
    values = np.linspace(0, 0.8, 100)
    assert frame([values], at_least=1.0) == pytest.approx(1.1, abs=0.11)
    assert frame([], at_least=2.0) >= 2.2
    assert linear_edges([values], at_least=1.0)[0] == 0
    edges = log_edges([np.array([20.0, 3000.0])])
    assert edges[0] < 20 and edges[-1] > 3000
    assert log_edges([np.zeros(0)])[-1] > log_edges([np.zeros(0)])[0]
    assert log_edges([np.array([0.0])])[0] > 0


def test_records_are_runs_of_one_id() -> None:
    assert number_of_records(pa.table({"id": ["a", "a", "b", "c", "c"]})) == 3
    assert number_of_records(pa.table({"id": pa.array([], pa.string())})) == 0


def test_counted() -> None:
    table = pa.table({"k": ["x", "y", "y", None], "v": ["1", "2", "2", "3"]})
    assert list(counted(table, "k", "v").items()) == [
        (("y", "2"), 2),
        (("", "3"), 1),
        (("x", "1"), 1),
    ]


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        ([("a b c", "")], 1.0),
        ([("a b a b", "")], 2 / 3),
        ([("a b", ""), ("A  b", "")], 0.5),
        ([("a", "b"), ("a b", None)], 0.5),
        ([("a", ""), ("", None)], None),
        ([], None),
    ],
)
def test_distinct_2(texts: list[tuple[str, str | None]], value: float | None) -> None:
    names = ("instruction", "input")
    table = pa.table(
        {
            n: pa.chunked_array([pa.array([t[p] for t in texts], pa.string())])
            for p, n in enumerate(names)
        }
    )
    assert distinct_2(table) == (None if value is None else pytest.approx(value))
