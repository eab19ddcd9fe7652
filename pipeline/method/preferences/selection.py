"""The rivals of a record's response step: the same instruction, the response before and after.

Both branches are compared: the original instruction's and the reflected one's. The response with
the lower r-IFD is preferred, which says that it belongs to its instruction, not that it is better.
"""

from collections.abc import Iterator, Mapping

from ...pair_records import NoPair, Origin, Unpaired
from ...records import Candidate, CandidateKind, Message, Score, user_turn
from ..ifd import log_ratio
from .rivals import Answer, Rivals

_BRANCHES: tuple[tuple[CandidateKind, CandidateKind], ...] = (
    ("original", "response"),
    ("instruction", "both"),
)


def record_rivals(
    record: Mapping[CandidateKind, Candidate], scores: Mapping[CandidateKind, Score]
) -> Iterator[Rivals | Unpaired]:
    """The rivals of each branch that a record has; a reason where it has none."""
    found = 0
    for before, after in _BRANCHES:
        if before in record and record[before].valid and after in record:
            found += 1
            yield _rivals(record[before], record[after], scores)
    if not found:
        id = next(iter(record.values())).id
        detail = "no second response to one instruction"
        yield Unpaired(id=id, reason="no_rival", detail=detail, source="selection")


def _rivals(
    before: Candidate, after: Candidate, scores: Mapping[CandidateKind, Score]
) -> Rivals | Unpaired:
    rivals = Rivals(
        id=before.id,
        prompt=_prompt(before),
        answers=[_answer(one, scores.get(one.candidate)) for one in (before, after)],
        source="selection",
    )
    if after.valid and _prompt(after) != rivals.prompt:
        return rivals.unpaired("no_rival", "the two responses answer different instructions")
    return rivals


def _prompt(candidate: Candidate) -> list[Message]:
    system = [{"role": "system", "content": candidate.system}] if candidate.system else []
    text = user_turn(candidate.instruction or "", candidate.input or "")
    return [*system, *candidate.history, {"role": "user", "content": text}]


def _answer(candidate: Candidate, score: Score | None) -> Answer:
    ratio = log_ratio(score, "rifd")
    return Answer(
        text=candidate.output or "",
        origin=Origin(
            candidate=candidate.candidate,
            model=candidate.teacher,
            reply_key=candidate.reply_key,
        ),
        reward=None if ratio is None else -ratio,
        score=None if ratio is None or score is None else score.rifd,
        fault=_fault(candidate),
    )


def _fault(candidate: Candidate) -> NoPair | None:
    if candidate.status == "ok" or candidate.status == "unchanged":
        return None
    return candidate.status
