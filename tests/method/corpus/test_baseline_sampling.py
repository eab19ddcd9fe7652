"""Baselines: the right number, no order but the seed's, lengths against every other choice."""

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.method.corpus.baseline_sampling import (
    length_difference,
    of_like_lengths,
    random_choice,
    random_subset,
)

IDS = [f"r{number}" for number in range(200)]
LENGTHS = st.lists(st.integers(0, 30), min_size=0, max_size=6)


def test_a_random_subset_is_the_seeds_alone() -> None:
    drawn = random_subset(IDS, 50, seed=3)
    assert len(drawn) == 50 and drawn < set(IDS)
    assert random_subset(IDS[::-1], 50, seed=3) == drawn != random_subset(IDS, 50, seed=4)
    assert random_subset(IDS, 20, seed=3) < drawn
    assert random_subset(IDS, 300) == set(IDS)
    assert random_subset([], 3) == random_subset(IDS, 0) == set()


def test_each_id_is_drawn_equally_often() -> None:
    counts = Counter(id for seed in range(400) for id in random_subset(IDS, 50, seed=seed))
    # 400 draws with probability 1/4: 100 on average, 8.7 standard deviation.
    assert set(counts) == set(IDS)
    assert min(counts.values()) > 60 and max(counts.values()) < 140


def test_each_choice_is_made_equally_often_whether_drawn_or_not() -> None:
    drawn = random_subset(IDS, 100)
    chosen = Counter((id in drawn, random_choice(id, "abcd")) for id in IDS)
    assert len(chosen) == 8 and max(chosen.values()) < 45


def test_lengths_by_hand() -> None:
    originals = {"a": 3, "b": 9, "c": 12, "d": 40, "e": 100}
    assert of_like_lengths([11], originals) == {"c"}
    assert of_like_lengths([1000, 90], originals) == {"e", "d"}
    assert of_like_lengths([10, 10, 10], originals) == {"b", "c", "a"}
    assert of_like_lengths([6], originals) == {"b"}  # 3 and 9 are as near: the longer
    assert of_like_lengths([5] * 9, originals) == set(originals)
    assert of_like_lengths([], originals) == of_like_lengths([5], {}) == set()


@settings(deadline=None)
@given(wanted=LENGTHS, lengths=LENGTHS, seed=st.integers(0, 9))
def test_lengths_are_matched_as_described(wanted: list[int], lengths: list[int], seed: int) -> None:
    originals = {f"r{number}": length for number, length in enumerate(lengths)}
    chosen = of_like_lengths(wanted, originals, seed=seed)
    assert chosen == of_like_lengths(wanted[::-1], dict(reversed(originals.items())), seed=seed)
    # The same by looking at every unused one for each.
    unused = sorted(lengths)
    expected = []
    for length in sorted(wanted, reverse=True)[: len(lengths)]:
        nearest = min(unused, key=lambda other: (abs(other - length), -other))
        unused.remove(nearest)
        expected.append(nearest)
    assert sorted(originals[id] for id in chosen) == sorted(expected)


def test_where_nothing_competes_no_choice_is_nearer() -> None:
    originals = {f"r{length}": length for length in (1, 5, 20, 21, 50, 90)}
    wanted = [4, 22, 60]
    chosen = of_like_lengths(wanted, originals)

    def distance(lengths: tuple[int, ...]) -> int:
        return min(
            sum(abs(a - b) for a, b in zip(order, wanted, strict=True))
            for order in permutations(lengths)
        )

    best = min(distance(some) for some in combinations(originals.values(), 3))
    assert distance(tuple(originals[id] for id in chosen)) == best


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=5))
def test_the_difference_is_that_of_the_best_pairing(pairs: list[tuple[int, int]]) -> None:
    lengths, wanted = (np.array(values) for values in zip(*pairs, strict=True))
    least = min(np.abs(np.array(order) - wanted).sum() for order in permutations(lengths))
    assert length_difference(lengths, wanted) == pytest.approx(least / wanted.sum())
    assert length_difference(lengths[1:], wanted) == np.inf


def test_the_difference_of_nothing() -> None:
    none, zeros = np.array([], np.int64), np.array([0])
    assert length_difference(none, none) == length_difference(zeros, zeros) == 0
    assert length_difference(np.array([3]), zeros) == np.inf
