"""What a selection is set against: subsets of the originals of its size. Pure and seeded.

Which ids are drawn depends on the seed and the ids alone, not on the order they come in.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Choice = TypeVar("Choice")
Lots = npt.NDArray[np.uint64]
"""A number for each id, as good as random, that decides who is drawn [N]."""
Lengths = npt.NDArray[np.int64]
Drawn = npt.NDArray[np.bool_]


def lot(seed: int, *words: str) -> bytes:
    """A number as good as random that the seed and the words decide."""
    return hashlib.sha256(json.dumps([seed, *words]).encode()).digest()


def lots(ids: Iterable[str], *, seed: int = 0) -> Lots:
    """The first 64 bits of each id's lot."""
    numbers = (int.from_bytes(lot(seed, id)[:8]) for id in ids)
    return np.fromiter(numbers, dtype=np.uint64)


def random_subset(ids: Iterable[str], size: int, *, seed: int = 0) -> set[str]:
    """So many of the ids, each equally likely; all of them where there are no more."""
    known = list(ids)
    return set(compress(known, draw(lots(known, seed=seed), size)))


def draw(numbers: Lots, size: int) -> Drawn:
    """The places of the lowest numbers."""
    drawn = np.zeros(len(numbers), np.bool_)
    drawn[numbers.argsort(kind="stable")[:size]] = True
    return drawn


def random_choice(id: str, choices: Sequence[Choice], *, seed: int = 0) -> Choice:
    """One of the choices for this id."""
    # Another word than in `random_subset`: which ids are drawn must tell nothing of the choice.
    return choices[int.from_bytes(lot(seed, id, "choice")) % len(choices)]


def of_like_lengths(
    wanted: Iterable[int], lengths: Mapping[str, int], *, seed: int = 0
) -> set[str]:
    """For each wanted length, the longest first, the unused id whose own is nearest.

    Of two equally near the longer; among equal lengths the seed decides. With fewer ids than
    lengths all are taken.

    >>> sorted(of_like_lengths([10, 4], {"a": 3, "b": 9, "c": 12, "d": 40}))
    ['a', 'b']
    """
    numbers = lots(lengths, seed=seed)
    own, longed_for = (np.array(list(n), dtype=np.int64) for n in (lengths.values(), wanted))
    return set(compress(lengths, draw_of_like_lengths(longed_for, own, numbers)))


def draw_of_like_lengths(wanted: Lengths, lengths: Lengths, numbers: Lots) -> Drawn:
    """The same by places; `numbers` decide among equal lengths."""
    pool = np.lexsort((numbers, -lengths))
    drawn = np.zeros(len(lengths), np.bool_)
    longer = array("q")  # unused and no shorter than what is wanted, the nearest last
    place = 0  # pool[place] is the longest of the shorter ones
    for length in map(int, np.sort(wanted)[::-1]):
        while place < len(pool) and lengths[pool[place]] >= length:
            longer.append(pool[place])
            place += 1
        above = lengths[longer[-1]] - length if longer else None
        below = length - lengths[pool[place]] if place < len(pool) else None
        if above is not None and (below is None or above <= below):
            drawn[longer.pop()] = True
        elif below is not None:
            drawn[pool[place]] = True
            place += 1
    return drawn


def length_difference(lengths: Lengths, wanted: Lengths) -> float:
    """How far two sets of equal size are apart in length, as part of the wanted ones' mean.

    The mean distance of the longest from the longest, and so on (Wasserstein-1). Infinite where
    the sizes differ.

    >>> length_difference(np.array([9, 3]), np.array([4, 8]))
    0.16666666666666666
    """
    if len(lengths) != len(wanted):
        return np.inf
    apart, total = np.abs(np.sort(lengths) - np.sort(wanted)).sum(), wanted.sum()
    return float(apart / total) if total else float(apart and np.inf)
