"""All numbers of a report, from the tables of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...method.corpus.baseline_sampling import length_difference
from ...method.statistics.compression import bits_per_character
from ...runs.directory import RunDir
from .examples import DecisionExample, examples
from .reading import RESPONSE_NLLS, StudentTables
from .record_flow import Flow, Step, flow_of, input_step, versions_step
from .summaries import (
    Distribution,
    Numbers,
    by_origin,
    counted,
    distinct_2,
    distribution,
    number_of_records,
    numbers,
)

MOST_REASONS = 25
SIDES = ("ifd", "rifd")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNumbers:
    """What a run holds whoever the student is.

    `statuses`: (candidate, status) -> number; `reasons`: (status, reason) -> number, the most
    frequent ones; `teacher`: the manifest's entry of the stage that made the candidates.
    """

    records: int
    intake: Step | None
    statuses: Mapping[tuple[str, ...], int]
    reasons: Mapping[tuple[str, ...], int]
    other_reasons: int
    teacher: Mapping[str, Any]
    tokens: int
    notices: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNumbers:
    """A set of rows: the selection or a baseline.

    `apart` is the `length_difference` of its responses from the selection's. The ratios are of the
    `scored` rows: those that have both.
    """

    name: str
    rows: int
    apart: float
    scored: int
    instruction: Distribution
    response: Distribution
    ifd: Distribution
    rifd: Distribution
    distinct_2: float | None


@dataclass(frozen=True, slots=True)
class ResponseBits:
    """Bits a character of `rows` responses, without the instruction and given it."""

    rows: int
    alone: float
    given: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentNumbers:
    """What one student decided. Scores: (`ifd` or `rifd`, group) -> their distribution.

    `bits` has the groups of the scores of which a response was scored whole.
    """

    selected: int
    rejected: int
    versions: Mapping[str, int]
    drops: Mapping[tuple[str, ...], int]
    near_ties: int
    flow: Flow | None
    limits: Mapping[str, float]
    scores: Mapping[tuple[str, str], Distribution]
    bits: Mapping[str, ResponseBits]
    statuses: Mapping[tuple[str, ...], int]
    failures: Mapping[tuple[str, ...], int]
    lengths: Mapping[tuple[str, str], Distribution]
    sets: list[SetNumbers]
    examples: list[DecisionExample]
    notices: list[str]


def run_numbers(run: RunDir, candidates: pa.Table) -> RunNumbers:
    """Count the candidates of a run, and say what is not finished."""
    records = number_of_records(candidates)
    reflected = run.stage("reflect")
    stage = reflected or run.stage("import") or {}
    reflections = by_origin(candidates)["reflected"]
    with_reason = reflections.filter(pc.is_valid(reflections.column("reason")))
    reasons = list(counted(with_reason, "status", "reason").items())
    tokens = stage.get("tokens", {})
    return RunNumbers(
        records=records,
        intake=input_step(stage.get("input"), records),
        statuses=counted(candidates, "candidate", "status"),
        reasons=dict(reasons[:MOST_REASONS]),
        other_reasons=sum(number for _, number in reasons[MOST_REASONS:]),
        teacher=reflected or {},
        tokens=tokens.get("prompt", 0) + tokens.get("completion", 0),
        notices=_unfinished(run, stage, records),
    )


def _unfinished(run: RunDir, stage: Mapping[str, Any], records: int) -> list[str]:
    if not records:
        return ["No shard of candidates is finished yet: there is little to show."]
    if not stage:
        command = run.config["identity"].get("command", "reflect")
        return [
            f"Not all records have their versions yet. What follows is of the {records:,} records "
            f"in finished shards; curate {command} goes on where it stopped."
        ]
    if stage.get("step") == "instruction":
        return ["Only the instructions have been reflected yet (--schedule selective)."]
    return []


def groups_of(student: StudentTables, side: str) -> dict[str, Numbers]:
    """The known values of one score: of originals, of reflections, of kept and dropped pairs."""
    found = {name: numbers(part.column(side)) for name, part in by_origin(student.scores).items()}
    if student.decided:
        found["kept"] = numbers(student.kept.column(side))
        found["dropped"] = numbers(student.dropped.column(side))
    return found


def lengths_of(candidates: pa.Table, student: StudentTables) -> dict[tuple[str, str], Numbers]:
    """Lengths of instructions and responses: of all originals (before) and of kept rows (after)."""
    originals = by_origin(candidates)["original"]
    found = {}
    for text in ("instruction", "response"):
        found[text, "before"] = numbers(originals.column(f"{text}_chars"))
        if student.decided:
            found[text, "after"] = numbers(student.kept.column(f"{text}_chars"))
    return found


def student_numbers(
    run: RunDir, candidates: pa.Table, about: RunNumbers, student: StudentTables
) -> StudentNumbers:
    """Everything about one student."""
    rows, kept, settings = student.rows, student.kept, student.entry.get("settings", {})
    limits = {side: float(settings.get(f"max_{side}", 1.0)) for side in SIDES}
    before = (versions_step(about.statuses),)
    return StudentNumbers(
        selected=len(kept),
        rejected=len(rows) - len(kept),
        versions={kind: n for (kind,), n in counted(kept, "candidate").items()},
        drops=_drops(student.dropped),
        near_ties=int(pc.sum(rows.column("near_tie")).as_py() or 0),
        flow=flow_of(rows, about.records, about.intake, before) if student.decided else None,
        limits=limits,
        scores={
            (side, group): distribution(values, limits[side])
            for side in SIDES
            for group, values in groups_of(student, side).items()
        },
        bits=response_bits(candidates, student),
        statuses=_by_side(student.scores, "candidate", "{}_status"),
        failures=_by_side(student.scores, "{}_status", "{}_reason"),
        lengths={k: distribution(v) for k, v in lengths_of(candidates, student).items()},
        sets=[_set(name, student) for name in student.sets],
        examples=examples(run, candidates, rows),
        notices=_student_notices(student, about),
    )


def response_bits(candidates: pa.Table, student: StudentTables) -> dict[str, ResponseBits]:
    """From stored scores; a response that is not scored with and without its instruction is out."""
    groups = _whole(candidates, student)
    return {name: _bits(rows) for name, rows in groups.items() if len(rows)}


def _whole(candidates: pa.Table, student: StudentTables) -> dict[str, pa.Table]:
    """NLLs, tokens and characters of the responses scored whole, by the groups of `groups_of`."""
    pair = ["id", "candidate"]
    whole = student.scores.filter(pc.equal(student.scores.column("ifd_status"), "ok"))
    lengths = candidates.select([*pair, "response_chars"])
    rows = whole.select([*pair, *RESPONSE_NLLS]).join(lengths, keys=pair, join_type="inner")
    rows = rows.drop_null()
    found = by_origin(rows)
    if student.decided:
        for name, table in (("kept", student.kept), ("dropped", student.dropped)):
            found[name] = rows.join(table.select(pair), keys=pair, join_type="left semi")
    return found


def _bits(rows: pa.Table) -> ResponseBits:
    alone, given, tokens = (rows.column(name).to_pylist() for name in RESPONSE_NLLS)
    characters = pc.sum(rows.column("response_chars")).as_py()
    both = (bits_per_character(nlls, tokens, characters) for nlls in (alone, given))
    return ResponseBits(len(rows), *both)


def _drops(dropped: pa.Table) -> dict[tuple[str, ...], int]:
    """(filter rule, reason) -> number; no reason where it holds the row's own score."""
    unscored = pc.ends_with(dropped.column("filter_rule"), "_unscored")
    reasons = pc.if_else(unscored, dropped.column("reason"), pa.scalar("", pa.string()))
    place = dropped.column_names.index("reason")
    return counted(dropped.set_column(place, "reason", reasons), "filter_rule", "reason")


def _by_side(scores: pa.Table, *columns: str) -> dict[tuple[str, ...], int]:
    """(`ifd` or `rifd`, the columns' values) -> number, where the last column has a value.

    `{}` in a column's name stands for the side.
    """
    return {
        (side, *values): number
        for side in SIDES
        for values, number in counted(scores, *(name.format(side) for name in columns)).items()
        if values[-1]
    }


def _student_notices(student: StudentTables, about: RunNumbers) -> list[str]:
    if not student.decided:
        return ["Scored, but nothing has been selected yet: run curate select to the end."]
    if not student.entry:
        return ["The selection was not finished: run curate select again."]
    then = student.entry.get("counts", {}).get("candidates", {})
    now = {f"{kind} {status}": n for (kind, status), n in about.statuses.items()}
    if (then and then != now) or len(student.rows) != about.records:
        return [
            "The candidates have changed since this selection was made: run curate select again."
        ]
    return []


def _set(name: str, student: StudentTables) -> SetNumbers:
    rows = student.sets[name]
    known = _with_scores(rows, student.scores).drop_null()
    lengths, wanted = (
        one.column("response_chars").to_numpy() for one in (rows, student.sets["selected"])
    )
    return SetNumbers(
        name=name,
        rows=len(rows),
        apart=length_difference(lengths, wanted),
        scored=len(known),
        instruction=distribution(numbers(rows.column("instruction_chars"))),
        response=distribution(numbers(rows.column("response_chars"))),
        ifd=distribution(numbers(known.column("ifd"))),
        rifd=distribution(numbers(known.column("rifd"))),
        distinct_2=distinct_2(rows),
    )


def _with_scores(rows: pa.Table, scores: pa.Table) -> pa.Table:
    """IFD and r-IFD of the rows; of those without, what the score files have of that version."""
    stored = scores.select(["id", "candidate", *SIDES])
    own = rows.select(["id", "candidate", *SIDES])
    joined = own.join(stored, keys=["id", "candidate"], right_suffix="_stored")
    return pa.table({s: pc.coalesce(joined.column(s), joined.column(f"{s}_stored")) for s in SIDES})


def points(table: pa.Table, x: str, y: str) -> tuple[Numbers, Numbers]:
    """The rows of which both columns are known."""
    both = table.filter(pc.and_(pc.is_valid(table.column(x)), pc.is_valid(table.column(y))))
    return numbers(both.column(x)), numbers(both.column(y))
