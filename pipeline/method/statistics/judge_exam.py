"""A judge's exam: its ratings of answers that people ranked, against the ranks. Pure.

Between answers x and y to one prompt, sign(x, y) is 1 where x is the better one, 0 where they tie.
Of a prompt's signs by people S and by the judge R, both [n, n], Kendall's tau-b is the cosine of S
and R, and Spearman's rho that of their rows' sums: an average rank is (n + 1 - sum) / 2.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...pair_records import Sample
from ..replies.ratings import RATED

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeExam:
    """How ratings agree with ranks; shares from 0 to 1, None of nothing."""

    prompts: int
    """With rated answers of different ranks; the shares and correlations are theirs."""
    unrated: int
    """Ranked answers without a rating: left out."""
    pairs: int
    """Of answers to one prompt that differ in rank."""
    tied: int
    """Pairs that the judge rates alike: they count as missed."""
    pairwise_accuracy: float | None
    exact: float | None
    """Prompts of which no pair is missed."""
    five_best: float | None
    """Answers rated 5 that are of their prompt's best rank."""
    spearman: float | None
    """Mean over the prompts; 0 where the judge rates all answers alike."""
    kendall: float | None
    """Tau-b, likewise."""


def judge_exam(samples: Iterable[Sample]) -> JudgeExam | None:
    """The exam over all answers that have a rank; None where none has."""
    prompts = ranked_prompts(samples)
    if not prompts:
        return None
    rated = [[one for one in group if one.rating is not None] for group in prompts]
    groups = [group for group in rated if differ(group)]
    orders = [(_ranks(group), _ratings(group)) for group in groups]
    hits = np.concatenate([_hits(*order) for order in orders] or [np.zeros(0)])
    fives = [
        one.rank == min(map(_rank, group))
        for group in groups for one in group if one.rating == RATED[1]
    ]  # fmt: skip
    return JudgeExam(
        prompts=len(groups),
        unrated=sum(map(len, prompts)) - sum(map(len, rated)),
        pairs=len(hits),
        tied=int((hits == 0).sum()),
        pairwise_accuracy=_mean(hits == 1),
        exact=_mean([(_hits(*order) == 1).all() for order in orders]),
        five_best=_mean(fives),
        spearman=_mean([_cosine(ranks.sum(1), given.sum(1)) for ranks, given in orders]),
        kendall=_mean([_cosine(ranks, given) for ranks, given in orders]),
    )


def ranked_prompts(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The answers that have a rank, by the prompt's id."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.rank is not None:
            groups[sample.id].append(sample)
    return list(groups.values())


def differ(group: Sequence[Sample]) -> bool:
    """Whether people prefer some of the answers to others."""
    return len(set(map(_rank, group))) > 1


def in_order(group: Sequence[Sample]) -> bool:
    """Whether of any two rated answers that differ in rank the better has the higher rating."""
    return bool((_hits(_ranks(group), _ratings(group)) == 1).all())


def _rank(sample: Sample) -> float:
    assert sample.rank is not None
    return sample.rank


def _ranks(group: Sequence[Sample]) -> Array:
    return _signs([-_rank(one) for one in group])


def _ratings(group: Sequence[Sample]) -> Array:
    return _signs([one.rating for one in group if one.rating is not None])


def _signs(values: Sequence[float]) -> Array:
    """sign(x, y) of any two values [n, n]."""
    row = np.asarray(values, dtype=np.float64)
    return np.sign(row[:, None] - row)


def _hits(ranks: Array, ratings: Array) -> Array:
    """Of each pair that differs in rank: 1 as ranked, 0 tied, -1 the other way round [P]."""
    hits: Array = (ranks * ratings)[np.triu(ranks != 0)]
    return hits


def _cosine(one: Array, other: Array) -> float:
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size else 0.0


def _mean(values: Sequence[float] | npt.NDArray[np.bool_]) -> float | None:
    return float(np.mean(values)) if len(values) else None
