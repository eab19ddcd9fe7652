"""Verdicts -> wins, ties and losses, a mean, and how far chance moves it (docs/method.md)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


def pair_value(forward: Sequence[float], reverse: Sequence[float]) -> int:
    """1 a win of model A, 0 a tie, -1 a loss; `forward` scores (A, B), `reverse` (B, A).

    A win is better in one order and at least equal in the other; a split is a tie.

    >>> pair_value((8, 7), (6, 6)), pair_value((8, 7), (9, 6)), pair_value((5, 6), (7, 7))
    (1, 0, -1)
    """
    first, second = np.sign(forward[0] - forward[1]), np.sign(reverse[1] - reverse[0])
    return int(np.sign(first + second))


@dataclass(frozen=True, slots=True)
class Tally:
    """Wins, ties and losses of the first model."""

    wins: int
    ties: int
    losses: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Tally":
        """Counted by sign."""
        signs = [(value > 0) - (value < 0) for value in values]
        return cls(signs.count(1), signs.count(0), signs.count(-1))

    @property
    def pairs(self) -> int:
        """All that were judged."""
        return self.wins + self.ties + self.losses

    @property
    def winning_score(self) -> float | None:
        """(wins - losses) / all + 1: 1 is on a par, 2 wins all; None of nothing."""
        return (self.wins - self.losses) / self.pairs + 1 if self.pairs else None


def preference_share(preference: float) -> float:
    """What an AlpacaEval preference counts for model 2: 1 and 2 and all between, 0 a draw.

    >>> [preference_share(p) for p in (2, 1, 0, 1.5, 1.25)]
    [1.0, 0.0, 0.5, 0.5, 0.25]
    """
    return 0.5 if preference == 0 else float(preference) - 1


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The percentile bootstrap's interval of the mean; None of nothing.

    Drawing n values again with replacement is one draw of how often each distinct value comes.
    """
    if not values:
        return None
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    random = np.random.default_rng(0)
    drawn = random.multinomial(len(values), counts / len(values), size=RESAMPLES)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn @ distinct / len(values), (tail, 1 - tail))
    return float(low), float(high)


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean: the sample's deviation over the root of its size; None of fewer than two."""
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / len(values) ** 0.5)
