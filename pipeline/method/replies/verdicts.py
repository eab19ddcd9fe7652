"""Review text -> the judge's scores, or a named reason why there are none (docs/method.md).

What cannot be told is never guessed: it is `unparsed`, and the reason says what it was.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...records import CandidateStatus
from .endings import answer_text, incomplete
from .wording import refuses

Scale = tuple[float, float]
"""The lowest and the highest score that counts."""
ASKED: Scale = (1, 10)
"""The scale that our judge is asked for."""
RECORDED: Scale = (0, 10)
"""Of reviews that name no scale: published counts hold zeros ("0 0": neither answered)."""

_MARKS = re.compile(r"[*_`\[\]()\"]")
_TITLE = re.compile(r"\A\s*(?:final )?(?:scores?|ratings?)\s*:", re.I)
_LABEL = re.compile(
    r"\b(?:assistant|answer|response)\s*#?([12ab])(?:'s)?(?:\s+(?:score|rating))?\s*[:=]", re.I
)
_NUMBER = r"[+-]?\b\d{1,6}(?:\.\d{1,6})?"  # bounded: a line may be all digits
_OF_TEN = re.compile(rf"({_NUMBER})\s*/\s*10\b")
_PAIR = re.compile(rf"({_NUMBER})(?:\s*[,;&|]\s*(?:and\s+)?|\s+(?:and\s+)?)({_NUMBER})\.?")
_RATING = re.compile(rf"\[\[\s*({_NUMBER})\s*\]\]|\brating\W{{1,4}}\[\s*({_NUMBER})\s*\]", re.I)


def recorded_scale(about: Mapping[str, Any]) -> Scale:
    """The scale that a log of reviews names."""
    given = about.get("scale")
    numbers = isinstance(given, list) and [x for x in given if isinstance(x, int | float)]
    return (numbers[0], numbers[1]) if numbers and len(numbers) == 2 else RECORDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The scores that a review gives, in its own order (`ok`), or a status and its reason."""

    scores: tuple[float, ...] = ()
    status: CandidateStatus = "ok"
    reason: str | None = None


def pair_verdict(review: str, *, finish_reason: str | None = None, scale: Scale = ASKED) -> Verdict:
    """The two scores on a review's first line.

    >>> pair_verdict("8 7.5\\nBoth are helpful, the first a little more so.").scores
    (8.0, 7.5)
    >>> pair_verdict("Assistant 1 is better.").reason
    'no two scores on the first line'
    """
    text = answer_text(review).strip()
    line, more, _ = text.partition("\n")
    if (cut := incomplete(finish_reason)) and not more:  # "8 1" may have been to be "8 10"
        return Verdict(status=cut[0], reason=cut[1])
    line = _TITLE.sub("", _MARKS.sub(" ", line))
    labels = [label.lower() for label in _LABEL.findall(line)]
    found = _PAIR.fullmatch(_OF_TEN.sub(r"\1", _LABEL.sub(" ", line)).strip())
    if not found or labels not in ([], ["1", "2"], ["a", "b"]):
        return without_scores(text, "no two scores on the first line")
    return on_scale(tuple(float(number) for number in found.groups()), scale)


def single_verdict(
    review: str, *, finish_reason: str | None = None, scale: Scale = ASKED
) -> Verdict:
    """The one score of a single-answer review, in FastChat's form.

    >>> single_verdict("Clear and correct. Rating: [[9]]").scores
    (9.0,)
    """
    text = answer_text(review).strip()
    ratings = {float(double or single) for double, single in _RATING.findall(text)}
    if (cut := incomplete(finish_reason)) and not ratings:
        return Verdict(status=cut[0], reason=cut[1])
    if not ratings:
        return without_scores(text, "no [[rating]]")
    if len(ratings) > 1:
        return Verdict(status="unparsed", reason="several ratings that differ")
    return on_scale(tuple(ratings), scale)


def without_scores(text: str, reason: str) -> Verdict:
    """The verdict of a review in which no score was found."""
    if not text:
        return Verdict(status="unparsed", reason="empty review")
    if refuses(text):
        return Verdict(status="refused", reason="a refusal")
    return Verdict(status="unparsed", reason=reason)


def on_scale(scores: tuple[float, ...], scale: Scale) -> Verdict:
    """The scores; unparsed where one lies outside the scale."""
    low, high = scale
    if any(not low <= score <= high for score in scores):
        return Verdict(status="unparsed", reason=f"a score outside the scale {low:g} to {high:g}")
    return Verdict(scores=scores)
