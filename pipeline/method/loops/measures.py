"""What is measured after an iteration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Any

from ...pair_records import Sample
from ..corpus.ngrams import words
from ..replies.endings import incomplete
from ..statistics.judge_exam import JudgeExam

_CONTENT = 4
"""Letters from which a word counts as one of content, whatever the language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wins:
    """Answers against another iteration's, by the held-out judge in both orders."""

    wins: int
    ties: int
    losses: int
    score: float | None
    """(wins - losses) / all + 1."""
    interval: tuple[float, float] | None
    unparsed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """An iteration in numbers; None where there is nothing to measure it on.

    Those of pairs and rewards are of the samples that it was trained on, by the model before it;
    the others are of the trained model, on the held-out records. A share is of 1.
    """

    iteration: int
    prompts: int | None = None
    pairs: int | None = None
    trained_on: int | None = None
    """Pairs of the training: of earlier iterations too, with some recipes."""
    left_out: Mapping[str, int] | None = None
    ties: float | None = None
    """The share of tied prompts among those that have a pair or a tie."""
    identical: float | None = None
    """The share of prompts whose answers, or sample and demonstration, are one text."""
    reward: float | None = None
    """The mean reward of the samples that have one."""
    reward_length: float | None = None
    """The correlation of a sample's reward with its length."""
    samples_cut: float | None = None
    held_out_loss: float | None = None
    """Nats a response token, without the token that ends the response."""
    length: float | None = None
    """Characters of an answer, on average."""
    cut: float | None = None
    """The share of answers that reached the limit of new tokens."""
    distinct: float | None = None
    """Different words of all answers, as a share of all words."""
    taken_up: float | None = None
    """The share of a prompt's words of four letters and more that its answer repeats."""
    exam: JudgeExam | None = None
    """Of the trained model as the judge of answers that people ranked."""
    wins_first: Wins | None = None
    wins_previous: Wins | None = None


def of_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """The measures of rewards."""
    rated = [(one.rating, len(one.output)) for one in samples if one.rating is not None]
    rewards, lengths = [reward for reward, _ in rated], [length for _, length in rated]
    return {
        "reward": _mean(rewards),
        "reward_length": correlation(rewards, lengths),
        "samples_cut": _mean([_is_cut(one) for one in samples]),
    }


def of_answers(answers: Sequence[Sample]) -> dict[str, Any]:
    """The measures of held-out answers."""
    said = [word for one in answers for word in words(one.output)]
    found = [taken_up(one.prompt.turn, one.output) for one in answers]
    return {
        "length": _mean([len(one.output) for one in answers]),
        "cut": _mean([_is_cut(one) for one in answers]),
        "distinct": len(set(said)) / len(said) if said else None,
        "taken_up": _mean([share for share in found if share is not None]),
    }


def taken_up(prompt: str, answer: str) -> float | None:
    """The share of the prompt's content words that the answer has; None where it has none.

    >>> taken_up("Name the largest planet.", "The largest is Jupiter.")
    0.3333333333333333
    """
    asked = {word for word in words(prompt) if len(word) >= _CONTENT}
    return len(asked & set(words(answer))) / len(asked) if asked else None


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    if not first:
        return None
    a, b = ([value - fmean(values) for value in values] for values in (first, second))
    norm = sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else None


def _is_cut(one: Sample) -> bool:
    broken = incomplete(one.finish_reason)
    return broken is not None and broken[0] == "truncated"


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
