"""Judge tasks for evaluation fine-tuning (EFT): a judge's reviews that rank as people do.

As in Self-Rewarding Language Models (Yuan et al. 2024, arXiv 2401.10020): the model's own reviews
of a prompt's ranked answers are its targets where its ratings order them as people did. Reviews
that give the commonest score, which would be all that is learnt, are thinned out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from ..pair_records import Sample
from .statistics.judge_exam import differ, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedAnswer:
    """An answer with its rating, what the judge was asked, and its valid reviews: score, text."""

    sample: Sample
    request: str = ""
    reviews: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTask:
    """A row for `curate finetune`: what the judge was asked, and its review."""

    id: str
    instruction: str
    output: str
    score: float


def judge_tasks(answers: Iterable[RatedAnswer]) -> tuple[list[JudgeTask], Mapping[str, int]]:
    """A task for each answer that is kept, and how many are left out for which reason."""
    prompts: dict[str, list[RatedAnswer]] = defaultdict(list)
    for answer in answers:
        prompts[answer.sample.id].append(answer)
    left: Counter[str] = Counter()
    tasks: list[JudgeTask] = []
    for group in prompts.values():
        if reason := _fault([answer.sample for answer in group]):
            left[reason] += len(group)
        else:
            tasks += map(_task, group)
    kept = _thinned(tasks)
    left["thinned"] = len(tasks) - len(kept)
    return kept, +left


def _fault(group: Sequence[Sample]) -> str | None:
    """Why a prompt's reviews are no targets."""
    if any(one.rank is None for one in group) or not differ(group):
        return "unranked"
    if any(one.rating is None for one in group):
        return "unrated"
    return None if in_order(group) else "disagrees"


def _task(answer: RatedAnswer) -> JudgeTask:
    """Of several reviews the one whose score is nearest to the rating, their mean."""
    sample = answer.sample
    rating = sample.rating or 0.0
    score, review = min(answer.reviews, key=lambda review: abs(review[0] - rating))
    return JudgeTask(
        id=f"{sample.id}#{sample.sample}", instruction=answer.request, output=review, score=score
    )


def _thinned(tasks: list[JudgeTask]) -> list[JudgeTask]:
    """At most as many of the commonest score as of the next; which, a hash of the id decides."""
    counts = Counter(task.score for task in tasks).most_common(2)
    if len(counts) < 2:
        return tasks
    (common, _), (_, most) = counts
    drawn = sorted((task for task in tasks if task.score == common), key=_lot)
    out = {task.id for task in drawn[most:]}
    return [task for task in tasks if task.id not in out]


def _lot(task: JudgeTask) -> bytes:
    return blake2b(task.id.encode()).digest()
