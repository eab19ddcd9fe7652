"""One record of each combination of rules, with what was compared at each step."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ...records import Candidate, CandidateKind, candidates_from
from ...runs.directory import RunDir
from ..difference import Difference, difference
from .reading import candidate_texts
from .record_flow import REFLECTED

_RULES = ["selected", "instruction_rule", "response_rule", "filter_rule"]
StepName = Literal["instruction", "response"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One step: both versions' texts by name, their scores (IFD or r-IFD) and which one stayed.

    `texts` is empty where the teacher gave no pair; `missing` says why.
    """

    step: StepName
    texts: Mapping[str, Difference]
    old_score: float | None
    new_score: float | None
    winner: Literal["old", "new"]
    missing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionExample:
    """The record with the least id of those that the same rules decided; `count` are these."""

    row: Mapping[str, Any]
    count: int
    comparisons: Sequence[Comparison]


def examples(run: RunDir, candidates: pa.Table, rows: pa.Table) -> list[DecisionExample]:
    """One for each combination of rules, selected ones first, then by how many share it."""
    groups = rows.group_by(_RULES).aggregate([("id", "min"), ([], "count_all")]).to_pylist()
    counts = {group["id_min"]: group["count_all"] for group in groups}
    chosen = rows.filter(pc.is_in(rows.column("id"), pa.array(list(counts), pa.string())))
    records = _records(run, candidates, list(counts))
    found = [
        DecisionExample(
            row=row,
            count=counts[row["id"]],
            comparisons=list(_comparisons(row, records.get(row["id"], {}))),
        )
        for row in chosen.to_pylist()
    ]
    return sorted(found, key=lambda e: (not e.row["selected"], -e.count, e.row["id"]))


def _records(
    run: RunDir, candidates: pa.Table, ids: list[str]
) -> dict[str, dict[CandidateKind, Candidate]]:
    if not ids:
        return {}
    wanted = candidates.filter(pc.is_in(candidates.column("id"), pa.array(ids, pa.string())))
    shards = wanted.column("shard").unique().to_pylist()
    found: dict[str, dict[CandidateKind, Candidate]] = {}
    for candidate in candidates_from(candidate_texts(run, ids, shards)):
        found.setdefault(candidate.id, {})[candidate.candidate] = candidate
    return found


def _comparisons(
    row: Mapping[str, Any], record: Mapping[CandidateKind, Candidate]
) -> Iterator[Comparison]:
    """Both steps, as far as the record's candidates are there."""
    reflected = row["candidate"] in REFLECTED
    pair: tuple[CandidateKind, CandidateKind] = ("original", "response")
    if reflected:
        pair = ("instruction", "both")
    steps: tuple[tuple[StepName, CandidateKind, CandidateKind, str, str, bool], ...] = (
        ("instruction", "original", "instruction", "ifd_original", "ifd_instruction", reflected),
        ("response", *pair, "rifd_incumbent", "rifd_challenger", row["candidate"] == pair[1]),
    )
    for step, before, after, old_score, new_score, replaced in steps:
        old, new = record.get(before), record.get(after)
        yield Comparison(
            step=step,
            texts=dict(_texts(step, old, new)),
            old_score=row[old_score],
            new_score=row[new_score],
            winner="new" if replaced else "old",
            missing=_missing(new),
        )


def _missing(new: Candidate | None) -> str | None:
    if new is None:
        return "not asked for"
    return None if new.valid else f"{new.status}" + (f" ({new.reason})" if new.reason else "")


def _texts(
    step: StepName, old: Candidate | None, new: Candidate | None
) -> Iterator[tuple[str, Difference]]:
    """What the step may change: the response, and in the first step all three texts."""
    names = ("instruction", "input", "output") if step == "instruction" else ("output",)
    if step == "instruction" and old is not None and old.history:
        earlier = earlier_turns(old.history)
        yield "history", Difference(difference(earlier, earlier).old, [])
    for name in names:
        before, after = getattr(old, name, None) or "", getattr(new, name, None) or ""
        if not before and not after and name == "input":
            continue
        if new is None or not new.valid:
            yield name, Difference(difference(before, before).old, [])
        else:
            yield name, difference(before, after)


def earlier_turns(history: Iterable[Mapping[str, str]]) -> str:
    """A record's history as a text."""
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in history)
