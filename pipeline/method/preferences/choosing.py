"""Which of a prompt's answers is chosen and which is rejected: the best and the worst, or a tier.

Quality tiers are those of Meta-Rewarding (Wu et al. 2024, arXiv 2407.19594). With rewards from
S_min to S_max and a width rho below 1/2, the shortest answer above (1 - rho) S_max + rho S_min is
chosen, and the longest one below (1 - rho) S_min + rho S_max is rejected.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from ...pair_records import PreferencePair, Unpaired
from .rejection_sampling import statistical_rejection
from .rivals import Answer, Rivals, same_text

_ROUNDING = 1e-9
"""By which a reward may miss the end of a tier: means of ratings are no exact numbers."""


def best_and_worst(
    rivals: Rivals, *, tier: float = 0.0, noise: float = 0.0
) -> PreferencePair | Unpaired:
    """One pair of the answers that can be used, of each distinct text one."""
    texts = rivals.usable(rewarded=False)
    if len(texts) > 1 and all(same_text(texts[0], other) for other in texts[1:]):
        return rivals.unpaired("identical", "all answers have the same text")
    answers = _distinct(rivals.usable())
    if len(answers) < 2:
        return rivals.too_few()
    found = tiers([_reward(answer) for answer in answers], answers, rho=tier)
    if found is None:
        return rivals.unpaired("tie", f"all answers have the score {_shown(answers[0])}", margin=0)
    chosen, rejected = (answers[place] for place in found)
    return rivals.pair(chosen, rejected, noise=noise)


def tiers(
    rewards: Sequence[float], answers: Sequence[Answer], *, rho: float
) -> tuple[int, int] | None:
    """The places of the chosen and of the rejected answer; None where all rewards are equal.

    Without a tier (rho = 0) the answer on whose reward its ratings agree most decides between
    equals, else the earliest.
    """
    most, least = max(rewards), min(rewards)
    if most == least:
        return None
    step = rho * (most - least) + _ROUNDING
    places = range(len(rewards))
    top = [place for place in places if rewards[place] >= most - step]
    bottom = [place for place in places if rewards[place] <= least + step]
    if rho == 0:
        spread = [answer.variance for answer in answers]
        return min(top, key=spread.__getitem__), min(bottom, key=spread.__getitem__)
    lengths = [len(answer.text) for answer in answers]
    return min(top, key=lengths.__getitem__), max(bottom, key=lengths.__getitem__)


def rejection_sampled(
    rivals: Rivals, *, keep: int, beta: float, seed: int
) -> list[PreferencePair | Unpaired]:
    """keep/2 pairs of the answers that statistical rejection accepts, paired at random.

    The generator is seeded by `seed` and the record's id, so that neither the order nor the number
    of shards changes a pair. Equal texts stay the samples that they are.
    """
    usable = rivals.usable()
    if len(usable) < 2:
        return [rivals.too_few()]
    generator = Random(f"{seed}:{rivals.id}")
    rewards = [_reward(answer) for answer in usable]
    accepted = statistical_rejection(rewards, keep=keep, beta=beta, generator=generator)
    generator.shuffle(accepted)
    couples = zip(accepted[::2], accepted[1::2], strict=False)  # an odd one is left over
    return [_ranked(rivals, usable[first], usable[second]) for first, second in couples]


def demonstrated(rivals: Rivals) -> PreferencePair | Unpaired:
    """The pair of a demonstration, which is chosen, and a model's answer (SPIN, arXiv 2401.01335).

    A model that repeats its demonstration has nothing to learn from it: that is left out.
    """
    if len(rivals.usable(rewarded=False)) < 2:
        return rivals.too_few(rewarded=False)
    demonstration, answer = rivals.answers
    if same_text(demonstration, answer):
        return rivals.unpaired("identical", "the model's answer is the demonstration")
    return rivals.pair(demonstration, answer)


def _ranked(rivals: Rivals, first: Answer, second: Answer) -> PreferencePair | Unpaired:
    both = (first, second)
    if same_text(first, second):
        return rivals.unpaired("identical", "both answers have the same text", answers=both)
    if first.reward == second.reward:
        detail = f"both answers have the score {_shown(first)}"
        return rivals.unpaired("tie", detail, answers=both, margin=0)
    return rivals.pair(*sorted(both, key=_reward, reverse=True))


def _distinct(answers: Sequence[Answer]) -> list[Answer]:
    """The first answer of each text, with the mean reward of all that have it."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.text.strip(), []).append(answer)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[Answer]) -> Answer:
    if len(group) == 1:
        return group[0]
    reward = sum(map(_reward, group)) / len(group)
    scores = [answer.score for answer in group if answer.score is not None]
    score = sum(scores) / len(scores) if scores else None
    return replace(group[0], reward=reward, score=score)


def _reward(answer: Answer) -> float:
    assert answer.reward is not None
    return answer.reward


def _shown(answer: Answer) -> str:
    return "-" if answer.score is None else f"{answer.score:.6g}"
