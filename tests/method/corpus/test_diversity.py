"""Diversity, against a greedy algorithm in Python's integers that evaluates f for every set."""

import numpy as np
import numpy.typing as npt
import pytest

from curate.pipeline.method.corpus.diversity import SCALE, Units, diverse, units


def some_vectors(number: int, width: int, seed: int) -> Units:
    noise = np.random.default_rng(seed)
    return np.stack([units(noise.standard_normal(width)) for _ in range(number)])


def value(vectors: Units, chosen: list[int]) -> int:
    """f(S) = the sum over i of the highest 1 + v_i . v_j, in units of 1/SCALE**2."""
    products = vectors.astype(np.int64) @ vectors.astype(np.int64).T + SCALE**2
    return int(products[:, chosen].max(axis=1).sum()) if chosen else 0


def brute_force(vectors: Units, number: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(number):
        left = [place for place in range(len(vectors)) if place not in chosen]
        chosen.append(max(left, key=lambda place: (value(vectors, [*chosen, place]), -place)))
    return chosen


@pytest.mark.parametrize("seed", range(6))
def test_it_chooses_what_brute_force_chooses(seed: int) -> None:
    vectors = some_vectors(120, (2, 3, 8, 40, 3, 2)[seed], seed)
    vectors[60:] = vectors[:60] if seed > 3 else vectors[60:]  # ties throughout
    assert diverse(vectors, 25) == sorted(brute_force(vectors, 25))


def clusters(number: int, size: int) -> tuple[Units, npt.NDArray[np.int64]]:
    """Rows scattered a little about far points, in random order, and which point each is of."""
    noise = np.random.default_rng(1)
    centres = np.eye(number, 16) * 4
    labels = noise.permutation(np.repeat(np.arange(number), size))
    return np.stack([units(centres[c] + 0.3 * noise.standard_normal(16)) for c in labels]), labels


def test_of_obvious_clusters_one_each_is_chosen() -> None:
    vectors, labels = clusters(9, 30)
    assert sorted(labels[diverse(vectors, 9)]) == list(range(9))
    assert sorted(labels[diverse(vectors, 9, room=90 * 270)]) == list(
        range(9)
    )  # three in each part


def test_ties_go_to_the_lower_place() -> None:
    same = np.tile(units(np.ones(4)), (200, 1))
    assert diverse(same, 3) == [0, 1, 2]


@pytest.mark.parametrize(("number", "room"), [(0, 50), (7, 50), (50, 16), (99, 10), (100, 33)])
def test_parts_give_the_number_asked_for(number: int, room: int) -> None:
    chosen = diverse(some_vectors(100, 5, 0), number, room=100 * room)
    assert chosen == diverse(some_vectors(100, 5, 0), number, room=100 * room)
    assert len(diverse(some_vectors(100, 5, 0), number, room=25 * room, crowd=30)) == number
    assert len(chosen) == len(set(chosen)) == number
    assert chosen == sorted(chosen)


def test_parts_cost_little() -> None:
    """They keep most of what exact greedy gains over chance."""
    vectors = some_vectors(1200, 12, 3)
    exact = value(vectors, diverse(vectors, 120))
    chance = value(vectors, list(np.random.default_rng(0).choice(1200, 120, replace=False)))
    parts = value(vectors, diverse(vectors, 120, room=300 * 1200))
    assert parts - chance > 0.8 * (exact - chance) > 0


def test_products_are_exact_in_float32() -> None:
    """So that no order of summation, and no library, changes a choice."""
    vectors = some_vectors(64, 4096, 7)
    exact = vectors.astype(np.int64) @ vectors.astype(np.int64).T
    whole = vectors.astype(np.float32)
    for order in (slice(None), np.random.default_rng(0).permutation(4096)):
        assert np.array_equal(whole[:, order] @ whole[:, order].T, exact)
    assert exact.max() < 1 << 24


def test_units() -> None:
    assert np.abs(units(np.array([3.0, -4.0])) - np.array([0.6, -0.8]) * SCALE).max() < 0.5
    assert not units(np.zeros(3)).any()
