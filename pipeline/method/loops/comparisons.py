"""DITTO's comparisons (arXiv 2406.00888): which of them a batch holds.

D_E are the demonstrations, D_t the samples of iteration t. A batch of iteration t has 70 % online
comparisons, D_E over D_t; 20 % replay, D_E over D_i for i < t; 10 % inter-model, D_i over D_j for
j < i <= t. A share that has too few comparisons is not filled up by another.
"""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Literal, TypeVar

Kind = Literal["online", "replay", "intermodel"]
SHARES: dict[Kind, float] = {"online": 0.7, "replay": 0.2, "intermodel": 0.1}
Item = TypeVar("Item")


def batch_counts(size: int, pools: Mapping[Kind, int]) -> dict[Kind, int]:
    """How many comparisons of each kind a batch of that size holds.

    >>> batch_counts(21, {"online": 70, "replay": 70, "intermodel": 700})
    {'online': 15, 'replay': 4, 'intermodel': 2}
    """
    return {kind: min(round(size * share), pools[kind]) for kind, share in SHARES.items()}


def batches(
    pools: Mapping[Kind, Sequence[Item]], *, size: int, number: int, seed: str
) -> Iterator[list[tuple[Kind, Item]]]:
    """Batches that are drawn anew each, without replacement within a batch."""
    counts = batch_counts(size, {kind: len(pool) for kind, pool in pools.items()})
    for batch in range(number):
        chance = Random(f"{seed}:{batch}")
        drawn = [
            (kind, item) for kind in SHARES for item in chance.sample(pools[kind], counts[kind])
        ]
        chance.shuffle(drawn)
        yield drawn
