"""A judge's review of one answer -> its score from 0 to 5, or a named reason why there is none.

Rubric and form are those of Self-Rewarding Language Models (Yuan et al. 2024, arXiv 2401.10020).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .endings import CUT, answer_text, incomplete
from .verdicts import Scale, Verdict, on_scale, without_scores

RATED: Scale = (0, 5)
_SCORE = re.compile(r"(?<!\w)(?:score|points)[*_ \t]{0,4}:(.*)", re.I)
_MARKS = re.compile(r"[*_`()\[\]\"]|<[^<>]{0,40}>")
_NUMBER = re.compile(
    r"([+-]?[0-9]{1,6}(?:\.[0-9]{1,6})?)(?:\s?/\s?5|\sout of 5)?(?:\spoints?)?\.?", re.I
)
_MADE_UP_TURN = re.compile(
    r"^\W{0,4}(?:user|human|assistant|instruction|question)\W{0,2}:", re.I | re.M
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """The mean of an answer's valid scores, all of them, and why the others are missing."""

    mean: float | None
    """None where fewer than half of the scores are valid."""
    scores: tuple[float, ...]
    reason: str | None


def rating_verdict(review: str, *, finish_reason: str | None = None) -> Verdict:
    """The last `Score: n` of a review, n/5 allowed.

    A score of another scale, a range, and a review that goes on with a turn of its own making are
    no score.

    >>> rating_verdict("It helps, with gaps.\\nScore: 3/5").scores
    (3.0,)
    >>> rating_verdict("Score: 4 out of 100").reason
    'no number from 0 to 5 after the last "Score:"'
    """
    text = answer_text(review).strip()
    found = list(_SCORE.finditer(text))
    if (cut := incomplete(finish_reason)) and not found:
        return Verdict(status=cut[0], reason=cut[1])
    if not found:
        return without_scores(text, 'no "Score:"')
    if _MADE_UP_TURN.search(text, found[0].end()):
        return Verdict(status="unparsed", reason="a made-up turn follows the score")
    number = _NUMBER.fullmatch(_MARKS.sub(" ", found[-1][1]).strip())
    if number is None:
        reason = 'no number from 0 to 5 after the last "Score:"'
        return Verdict(status="unparsed", reason=reason)
    if cut and found[-1].end() == len(text):  # "Score: 1" may have been to be "Score: 1.5"
        return Verdict(status="truncated", reason=CUT)
    return on_scale((float(number[1]),), RATED)


def rating_of(verdicts: Sequence[Verdict]) -> Rating:
    """What several reviews of one answer say together.

    >>> rating_of([Verdict(scores=(3,)), Verdict(scores=(4,))]).mean
    3.5
    """
    scores = tuple(verdict.scores[0] for verdict in verdicts if verdict.scores)
    faults = [f"{one.status}: {one.reason}" for one in verdicts if not one.scores]
    enough = scores and 2 * len(scores) >= len(verdicts)
    mean = sum(scores) / len(scores) if enough else None
    return Rating(mean=mean, scores=scores, reason="; ".join(dict.fromkeys(faults)) or None)
