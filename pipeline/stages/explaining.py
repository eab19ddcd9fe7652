"""`curate explain`: why one record came out as it did."""

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from ..base.files import intact_parquet
from ..base.foreign_json import parse_json
from ..base.tables import shown
from ..errors import CurateError
from ..llm.journal import Journal
from ..method.preferences.explanation import explained, outcomes_of
from ..records import Candidate, Decision, Score, candidates_from, system_turns
from ..reporting.labels import RuleStep, rule_label
from ..runs.decisions import DecisionFiles
from ..runs.directory import RunDir, student_of
from ..runs.importing import NEAR_DUPLICATES
from ..runs.instructions import all_rows, family, rounds
from ..runs.loop import explained as explained_iterations
from ..runs.loop import ids_of, is_loop, pairs_of
from ..runs.published.pair_set import PairSet, is_pair_set
from ..runs.selection_names import selection_keys
from ..scoring.identity import noted_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One record: its candidates, and for each selection its final row, with the student's scores.

    Of a student's several selections the first has the scores.
    `pairs` are the preference pairs that its responses make, or why they make none; of a folder of
    pairs there is nothing else. `replies` are the teacher's raw replies by candidate, the critique
    with them. `left_out` is what `--dedup` noted of a record that it left out: then there is
    nothing else. `family` is a synthetic instruction and its ancestors up to the seeds.
    """

    id: str
    candidates: list[Candidate] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    students: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, Any] | None = None
    family: list[dict[str, Any]] = field(default_factory=list)
    iterations: list[dict[str, Any]] = field(default_factory=list)
    """Of a loop: what the prompt became in each."""

    def as_dict(self) -> dict[str, Any]:
        """For programs: plain values only."""
        return asdict(self)


def explain(path: str, id: str, *, journal: Path | None = None) -> Explanation:
    """Find a record of a run, or of a folder of pairs, by its id, shortened while unique.

    Raises CurateError for an unknown id, naming near ones.
    """
    if is_loop(path):
        loop = RunDir(Path(path))
        whole = _whole_id(ids_of(loop), id)
        return Explanation(id=whole, iterations=pairs_of(loop, whole))
    if is_pair_set(path):
        pairs = PairSet(Path(path))
        whole = _whole_id(list(dict.fromkeys(pairs.ids())), id)
        return Explanation(id=whole, pairs=pairs.of(whole))
    run = RunDir.open(path)
    if rounds(run):
        ids = dict.fromkeys(known for row in all_rows(run) for known in (row.own_id, row.id))
        whole = _whole_id(list(ids), id)
        return Explanation(id=whole, family=list(map(asdict, family(run, whole))))
    if not run.shard_paths():
        raise CurateError(f"{path} has no candidates yet")
    left_out = _left_out(run)
    shard_of = {
        known: shard
        for shard in run.shard_paths()
        for known in run.shard_table(shard, ["id"])["id"].unique().to_pylist()
    }
    whole = _whole_id([*shard_of, *left_out], id)
    if whole in left_out:
        return Explanation(id=whole, left_out=left_out[whole])
    table = run.shard_table(shard_of[whole])
    candidates = candidates_from(table.filter(pc.equal(table["id"], whole)))
    students = dict(_selections(run, whole))
    return Explanation(
        id=whole,
        candidates=candidates,
        replies=_replies(run, candidates, journal),
        students=students,
        pairs=[
            {"student": student, **row}
            for student, about in students.items()
            if "scores" in about
            for row in _pairs(candidates, about["scores"])
        ],
    )


def _pairs(candidates: list[Candidate], scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `curate pairs` would make of the record, by one student's scores."""
    record = {candidate.candidate: candidate for candidate in candidates}
    return outcomes_of(record, {row["candidate"]: Score(**row) for row in scores})


def _left_out(run: RunDir) -> dict[str, dict[str, Any]]:
    """What `--dedup` left out, by id."""
    path = run.path / NEAR_DUPLICATES
    try:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return {row["id"]: row for row in map(parse_json, lines)}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CurateError(f"{path} is damaged: {error}") from None


def _whole_id(ids: list[str], id: str) -> str:
    if id in ids:
        return id
    found = [known for known in ids if known.startswith(id)]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise CurateError(f"{id!r} begins several ids: {', '.join(found[:5])}")
    near = difflib.get_close_matches(id, ids[:100_000], n=3, cutoff=0.4)
    hint = f"; near ones are {', '.join(near)}" if near else ""
    raise CurateError(f"no record has the id {id!r}{hint}")


def _replies(run: RunDir, candidates: list[Candidate], folder: Path | None) -> dict[str, str]:
    noted = (run.stage("reflect") or {}).get("journal", "journal")
    journal = Journal(folder or run.path / noted, run="")
    try:
        found = {c.candidate: journal.attempts(c.reply_key) for c in candidates if c.reply_key}
    finally:
        journal.close()
    return {kind: attempts[-1].text for kind, attempts in found.items() if attempts}


def _selections(run: RunDir, id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    before = ""
    for key in selection_keys(run):
        if (run.path / "scores" / student_of(key) / "config.json").is_file():
            yield key, _selection(run, key, id, scores=student_of(key) != before)
            before = student_of(key)


def _selection(run: RunDir, key: str, id: str, *, scores: bool) -> dict[str, Any]:
    """The row that a decision left of the record, and the student's scores of it."""
    folder = run.path / "scores" / student_of(key)
    found: dict[str, Any] = {"scoring": noted_identity(folder).fields()}
    if scores:
        shards = sorted(folder.glob("*.parquet"))
        found["scores"] = [row for path in shards for row in _rows_of(path, id)]
    for _, decisions in DecisionFiles.of(run, key).shards():
        for row in decisions.filter(pc.equal(decisions.column("id"), id)).to_pylist():
            outcome = "selected" if row["reason"] is None else "rejected"
            found |= {"outcome": outcome, "row": _row(row)}
    return found


def _rows_of(path: Path, id: str) -> list[dict[str, Any]]:
    """The scores of a record in a shard; CurateError when it is damaged."""
    scores = intact_parquet(path, remedy="run `curate select` again")
    own = scores.filter(pc.equal(scores["id"], id))
    rows: list[dict[str, Any]] = own.drop(["texts"]).to_pylist()
    return rows


def _row(decided: dict[str, Any]) -> dict[str, Any]:
    """The columns that a row of selected/ or rejected/ has of its decision."""
    names = ("id", "candidate", "ifd", "rifd", "reason")
    decision = {name: decided[name] for name in Decision.__slots__}
    return {**{name: decided[name] for name in names}, "decision": decision}


def in_words(found: Explanation) -> Iterator[str]:
    """For a person: the outcome first, then each candidate with its scores, then the replies."""
    yield f"record {found.id}"
    if found.left_out is not None:
        yield (
            "left out before the teacher was asked: its instruction repeats that of "
            f"{found.left_out['duplicate_of']} (similarity {found.left_out['similarity']:.2f})"
        )
    for relative in found.family:
        yield from _relative(relative)
    yield from explained_iterations(found.iterations)
    for student, about in found.students.items():
        yield from _outcome(student, about)
        yield from explained(row for row in found.pairs if row["student"] == student)
    if not found.students:
        yield from explained(found.pairs)
    for candidate in found.candidates[:1]:
        yield from _history(candidate)
    for candidate in found.candidates:
        yield f"\n== {candidate.candidate}: {candidate.status}" + (
            f" ({candidate.reason})" if candidate.reason else ""
        )
        yield from _scores(candidate.candidate, found.students)
        for name in ("instruction", "input", "output"):
            if text := getattr(candidate, name):
                yield f"{name}: {text}"
    for kind, reply in found.replies.items():
        yield f"\n== the teacher's raw reply for {kind}\n{reply}"


def _relative(row: dict[str, Any]) -> Iterator[str]:
    """A synthetic instruction, or a seed, of a family."""
    how = "seed"
    if row["round"]:
        operation = f", {row['operation']}" if row["operation"] else ""
        how = f"round {row['round']}{operation}, of {', '.join(row['parents'])}"
    yield f"\n== {row['id']}: {how}"
    if row["reason"]:
        yield f"left out: {row['reason']}" + (f" ({row['detail']})" if row["detail"] else "")
    for name in ("instruction", "input", "output", "reply_key", "answer_key"):
        if row[name]:
            yield f"{name}: {row[name]}"


def _history(candidate: Candidate) -> Iterator[str]:
    """What came before the record's instruction, the same for all its candidates."""
    turns = [*system_turns(candidate.system), *candidate.history]
    if turns:
        yield "\n== before the instruction"
    for turn in turns:
        yield f"{turn['role']}: {turn['content']}"


def _outcome(student: str, about: dict[str, Any]) -> Iterator[str]:
    row = about.get("row")
    if row is None:
        yield f"{student}: scored, not decided yet"
        return
    yield f"{student}: {about['outcome']}, as `{row['candidate']}`" + (
        f": {row['reason']}" if row.get("reason") else ""
    )
    decision = row["decision"]
    steps: tuple[tuple[RuleStep, str, str, str, str, str], ...] = (
        ("instruction", "IFD", "original", "ifd_original", "instruction", "ifd_instruction"),
        ("response", "r-IFD", "before", "rifd_incumbent", "after", "rifd_challenger"),
    )
    for step, score, old, old_score, new, new_score in steps:
        before, after = (shown(decision[name], ".4f") for name in (old_score, new_score))
        yield f"  {_rule(step, decision)} ({score} {old} {before}, {new} {after})"
    ifd, rifd = (shown(row[name], ".4f") for name in ("ifd", "rifd"))
    yield f"  {_rule('filter', decision)} (IFD {ifd}, r-IFD {rifd})"


def _rule(step: RuleStep, decision: dict[str, Any]) -> str:
    """A rule's code, and what it did where the code does not say so."""
    code = decision[f"{step}_rule"]
    label = rule_label(step, code)
    return f"{step}_rule: {code}" + (f": {label}" if label != code else "")


def _scores(kind: str, students: dict[str, dict[str, Any]]) -> Iterator[str]:
    for student, about in students.items():
        for score in about.get("scores", ()):
            if score["candidate"] == kind and (score["ifd_status"] or score["rifd_status"]):
                yield f"{student}: {_side(score, 'ifd', 'IFD')}, {_side(score, 'rifd', 'r-IFD')}"


def _side(score: dict[str, Any], side: str, name: str) -> str:
    return f"{name} {shown(score[side], '.4f')} ({score[f'{side}_status'] or 'not asked'})"
