"""Why answers became a pair or none, in words; rows are those of the two data sets."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...pair_records import Origin
from ...records import Candidate, CandidateKind, Score
from .choosing import best_and_worst
from .rivals import Rivals
from .selection import record_rivals


def outcomes_of(
    record: Mapping[CandidateKind, Candidate], scores: Mapping[CandidateKind, Score]
) -> list[dict[str, Any]]:
    """What a run's record becomes where no pair is left out for its margin or its lengths."""
    found = record_rivals(record, scores)
    made = (best_and_worst(one) if isinstance(one, Rivals) else one for one in found)
    return [one.values() for one in made]


def explained(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each pair, with the two answers, and for each reason."""
    for row in rows:
        if "reason" in row:
            answers = " and ".join(row["answers"]) or "its answers"
            yield f"no pair of {answers}: {row['reason']} ({row['detail']})"
        else:
            yield _pair(row)
            for side in ("chosen", "rejected"):
                yield f"  {side}: {row[side][0]['content']}"


def _pair(row: Mapping[str, Any]) -> str:
    chosen, rejected = (Origin(**row[f"{side}_from"]).name for side in ("chosen", "rejected"))
    line = f"a pair by {row['source']}: {chosen} over {rejected}"
    if row["margin"] is None:
        return line
    name = "r-IFD" if row["source"] == "selection" else "score"
    near = ", a near tie" if row["near_tie"] else ""
    return (
        f"{line} ({name} {row['chosen_score']:.4g} against {row['rejected_score']:.4g}, margin "
        f"{row['margin']:.4g}{near})"
    )
