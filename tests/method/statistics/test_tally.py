"""Wins, ties, losses by hand; intervals against a resampling that writes every draw out."""

import random
from typing import Any

import pytest

from curate.pipeline.method.statistics.judge_results import (
    pair_outcome,
    preference_outcome,
    rating_outcome,
)
from curate.pipeline.method.statistics.tally import Tally, mean_interval, pair_value, standard_error


@pytest.mark.parametrize(
    ("forward", "reverse", "value"),
    [
        ((8, 7), (7, 8), 1),  # better in both orders
        ((8, 7), (7, 7), 1),  # better, then equal
        ((7, 7), (6, 9), 1),
        ((7, 7), (5, 5), 0),  # equal in both
        ((8, 7), (8, 7), 0),  # a split: the judge prefers whoever stands first
        ((9, 1), (7, 6.5), 0),  # by however much
        ((7, 8), (8, 8), -1),
        ((7, 8), (9, 2), -1),
    ],
)
def test_a_pair_in_both_orders(
    forward: tuple[float, float], reverse: tuple[float, float], value: int
) -> None:
    assert pair_value(forward, reverse) == value


def test_the_winning_score() -> None:
    tally = Tally.of([1, 1, 1, 0, -1])
    assert (tally.wins, tally.ties, tally.losses, tally.winning_score) == (3, 1, 1, 1.4)
    assert Tally.of([]).winning_score is None


def test_the_interval_is_a_bootstraps() -> None:
    values = [1.0] * 30 + [0.0] * 15 + [-1.0] * 15
    chance = random.Random(1)
    means = sorted(sum(chance.choices(values, k=60)) / 60 for _ in range(4000))
    low, high = mean_interval(values) or (0, 0)
    assert low == pytest.approx(means[100], abs=0.02)
    assert high == pytest.approx(means[3899], abs=0.02)
    assert mean_interval(values) == (low, high)
    assert mean_interval([1.0, 1.0]) == (1, 1)
    assert mean_interval([]) is None


def test_the_standard_error() -> None:
    assert standard_error([0, 1, 1, 0]) == pytest.approx((1 / 3) ** 0.5 / 2)
    assert standard_error([1]) is None


def test_pairs_count_only_with_both_verdicts() -> None:
    rows: list[dict[str, Any]] = [
        {"review": "8 7\n", "review_reverse": "7 8\n", "dataset": "easy"},
        {"review": "8 7\n", "review_reverse": "9 7\n", "dataset": "hard"},
        {"review": "3 7\n", "review_reverse": "7 7\n", "dataset": "hard"},
        {"review": "3 7\n", "review_reverse": "hm", "dataset": "hard"},
        {"review": "11 7\n", "review_reverse": "hm", "scores": [9, 1], "scores_reverse": [1, 9]},
        {"review": None, "failure": "no answer", "review_reverse": "7 7\n"},
    ]
    found = pair_outcome(rows).as_dict()
    assert (found["wins"], found["ties"], found["losses"], found["unparsed"]) == (1, 1, 1, 3)
    assert found["winning_score"] == 1
    assert found["reasons"] == {
        "unparsed: no two scores on the first line": 2,
        "unparsed: a score outside the scale 0 to 10": 1,
        "failed: no answer": 1,
    }
    assert found["categories"] == {
        "easy": {"wins": 1, "ties": 0, "losses": 0, "winning_score": 2},
        "hard": {"wins": 0, "ties": 1, "losses": 1, "winning_score": 0.5},
    }


def test_preferences() -> None:
    given = [2, 2, 1, 0, 1.5, 1.25, None, 3, -1, "2", True]
    found = preference_outcome({"preference": one} for one in given).as_dict()
    assert found["win_rate"] == pytest.approx(100 * (1 + 1 + 0 + 0.5 + 0.5 + 0.25) / 6)
    assert (found["wins"], found["ties"], found["losses"], found["unparsed"]) == (2, 2, 2, 5)


def test_ratings_by_turn_and_model() -> None:
    rows: list[dict[str, Any]] = [
        {"model": "m", "turn": 1, "judgment": "[[8]]", "score": 1},
        {"model": "m", "turn": 2, "judgment": "[[5]]"},
        {"model": "m", "turn": 1, "judgment": "[[9]]"},
        {"model": "n", "judgment": "Rating: [[3]]"},
        {"model": "n", "turn": 2, "judgment": "none"},
    ]
    found = rating_outcome(rows).as_dict()
    m, n = found["models"]["m"], found["models"]["n"]
    assert m["mean"] == pytest.approx(22 / 3) and m["turns"] == {"1": 8.5, "2": 5}
    assert n["mean"] == 3 and n["rated"] == 1
    assert found["unparsed"] == 1 and found["reasons"] == {"unparsed: no [[rating]]": 1}
