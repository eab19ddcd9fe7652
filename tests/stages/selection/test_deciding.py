"""The table of decisions: what the pure decision says, on disk, whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.method.decision import Rules, decide
from curate.pipeline.records import DECISIONS_SCHEMA, Candidate, Decision, Score
from curate.pipeline.runs.decisions import DecisionFiles
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.scoring.score_files import read_records
from curate.pipeline.stages.selection.stage import SelectResult

from ...training.data import (
    Row,
    chosen,
    records,
    rejected,
    scores_of,
    scoring_with,
    select_from,
    write_jsonl,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Some records without an original, and further columns."""
    rows = [row | {"n": n} for n, row in enumerate(records(18))]
    return write_jsonl(tmp_path / "candidates.jsonl", [*rows[1:8], *rows[9:]])


@pytest.fixture
def first(data: Path, tmp_path: Path, tiny_student: Path) -> SelectResult:
    """In shards of five records, with every score."""
    scoring = scoring_with(tiny_student, score_all=True)
    return select_from(data, tmp_path / "run", scoring, shard_size=5)


def expected(result: SelectResult, **rules: Any) -> dict[str, Row]:
    """What `decide` makes of the candidates and scores on disk."""
    run, stored, found = RunDir(result.run), scores_of(result), {}
    for shard in run.shard_paths():
        for record in read_records(run, shard):
            id = next(iter(record.values())).id
            scores = {kind: score_of(stored[id, kind]) for kind in record}
            outcome = decide(record, scores, Rules(**rules))
            found[id] = {
                **row_of(record.get(outcome.final), scores.get(outcome.final)),
                "candidate": outcome.final,
                "decision": {n: getattr(outcome.decision, n) for n in Decision.__slots__},
                "reason": outcome.reason,
                "n": None if "original" not in record else extra_of(record["original"])["n"],
            }
    return found


def score_of(row: Row) -> Score:
    return Score(**{name: row[name] for name in Score.__slots__})


def row_of(pair: Candidate | None, score: Score | None) -> Row:
    texts = {name: getattr(pair, name, None) for name in ("instruction", "input", "output")}
    messages = None
    if pair is not None and pair.valid:
        asked = f"{pair.instruction}\n{pair.input}" if pair.input else pair.instruction
        messages = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": pair.output},
        ]
    ratios = {side: getattr(score, side, None) for side in ("ifd", "rifd")}
    return {**texts, "messages": messages, **ratios}


def extra_of(candidate: Candidate) -> Row:
    found: Row = json.loads(candidate.extra or "{}")
    return found


def rows_of(result: SelectResult) -> dict[str, Row]:
    rows = [row | {"reason": None} for row in chosen(result)] + rejected(result)
    return {row.pop("id"): row for row in rows}


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"max_ifd": 1.02, "max_rifd": 1.01},
        {"only_improved": True, "max_ifd": 2.0},
        {"prefer_passing": True},
        {"prefer_passing": True, "max_ifd": 0.98, "max_rifd": 2.0},
    ],
)
def test_the_sets_hold_what_the_pure_decision_says(
    rules: dict[str, Any], first: SelectResult, data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    scoring = scoring_with(tiny_student)
    again = select_from(first.run, None, scoring, **rules)
    wanted = expected(again, **rules)
    assert rows_of(again) == wanted and len(wanted) == 18
    lazily = select_from(data, tmp_path / "lazily", scoring, shard_size=4, **rules)
    assert rows_of(lazily) == wanted
    assert again.counts["sequences"] == 0 < lazily.counts["sequences"]
    assert again.counts["by_rule"] == lazily.counts["by_rule"]


def test_prefer_passing_is_counted_and_noted(first: SelectResult, tiny_student: Path) -> None:
    ifd = {key: row["ifd"] for key, row in scores_of(first).items()}
    low, high = next(
        (ifd[id, "original"], value)
        for (id, kind), value in ifd.items()
        if kind == "instruction" and value and value > (ifd.get((id, "original")) or value)
    )
    rules: dict[str, Any] = {"max_ifd": (low + high) / 2, "prefer_passing": True}
    result = select_from(first.run, None, scoring_with(tiny_student), **rules)
    codes = {row["decision"]["instruction_rule"] for row in rows_of(result).values()}
    assert "instruction_not_below_max" in codes
    entry = RunDir(first.run).stage(f"select/{first.student}") or {}
    assert entry["settings"]["prefer_passing"] is True
    assert "- prefer_passing: `True`" in (result.selected / "README.md").read_text("utf-8")


def test_a_decision_file_a_shard_in_the_order_of_the_records(first: SelectResult) -> None:
    run = RunDir(first.run)
    files = DecisionFiles.of(run, first.student)
    assert [p.name for p in sorted(files.folder.iterdir())] == [p.name for p in run.shard_paths()]
    for shard, decisions in files.shards():
        assert decisions.schema.equals(DECISIONS_SCHEMA)
        rows = pq.read_table(shard).to_pylist()
        for decision in decisions.to_pylist():
            final = rows[decision["row"]]
            assert (final["id"], final["candidate"]) == (decision["id"], decision["candidate"])
            assert decision["response_chars"] == len(final["output"])
            assert decision["instruction_chars"] == len(final["instruction"] + final["input"])
            if decision["original_row"] is not None:
                original = rows[decision["original_row"]]
                assert (original["id"], original["candidate"]) == (decision["id"], "original")
                assert decision["original_response_chars"] == len(original["output"])


def test_a_selection_that_fails_on_the_way_leaves_the_last_one(
    first: SelectResult, tiny_student: Path
) -> None:
    run = RunDir(first.run)
    before = {path: path.read_bytes() for path in first.run.rglob("*") if path.is_file()}
    shard = run.shard_path(2)
    shard.write_bytes(b"torn")
    with pytest.raises(CurateError, match="damaged"):
        select_from(first.run, None, scoring_with(tiny_student), max_ifd=0.5)
    shard.write_bytes(before[shard])
    unchanged = ("decisions/student", "selected", "rejected", "manifest.json")
    for path, data in before.items():
        if str(path.relative_to(first.run)).startswith(unchanged):
            assert path.read_bytes() == data
    assert run.stage(f"select/{first.student}") is not None
    select_from(first.run, None, scoring_with(tiny_student), max_ifd=0.5)
    folders = [path.name for path in (first.run / "decisions").iterdir()]
    assert folders == [first.student]


def test_a_damaged_decision_is_named_and_made_again(
    first: SelectResult, tiny_student: Path
) -> None:
    files = DecisionFiles.of(RunDir(first.run), first.student)
    path = files.folder / "part-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + b"\0" + whole[-29:])
    with pytest.raises(CurateError, match="part-00001"):
        files.counts()
    select_from(first.run, None, scoring_with(tiny_student))
    assert path.read_bytes() == whole


def test_why_nothing_was_selected_is_said(
    first: SelectResult, tiny_student: Path, capsys: Any
) -> None:
    none = select_from(first.run, None, scoring_with(tiny_student), max_ifd=1e-9)
    said = capsys.readouterr().err
    assert none.counts["selected"] == 0
    assert all(f"{number} {rule}" in said for rule, number in none.counts["by_rule"].items())
