"""Importing: data sets and candidates from elsewhere become the shards of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from curate.pipeline.config import InputConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.examples import chunks, input_identity, read_examples
from curate.pipeline.inputs.ingest import Intake
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.records import CANDIDATES, Candidate
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.importing import import_candidates


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def record(number: int, **more: Any) -> dict[str, Any]:
    return {"instruction": f"Say {number}.", "output": str(number), **more}


SIZE = 10


def imported(run: RunDir, data: Path, **options: Any) -> list[list[Candidate]]:
    given = InputConfig(data=str(data), **options)
    import_candidates(run, open_source(str(data)), given, shard_size=SIZE)
    return list(run.records())


def new_run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", {"command": "select"})


def test_chunks() -> None:
    assert list(chunks([], 2)) == []
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks(range(4), 2)) == [[0, 1], [2, 3]]


def test_originals(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    rows = [record(n, source={"n": n}) for n in range(SIZE + 5)]
    found = imported(run, lines(tmp_path / "a.jsonl", [*rows, rows[0], {"instruction": "x"}]))
    assert [len(shard) for shard in (run.read_shard(p) for p in run.shard_paths())] == [SIZE, 5]
    assert [[c.candidate for c in group] for group in found] == [["original"]] * len(rows)
    assert [group[0].output for group in found] == [row["output"] for row in rows]
    assert json.loads(found[7][0].extra or "") == {"source": {"n": 7}}
    entry = run.stage("import") or {}
    assert entry["records"] == SIZE + 5
    assert entry["input"] == {
        "rows": SIZE + 7,
        "records": SIZE + 5,
        "duplicates": 1,
        "rejected": 1,
        "surrogates_replaced": 0,
    }
    assert [group[0].input_row for group in found] == list(range(SIZE + 5))
    repeated = json.loads((run.path / "duplicates.jsonl").read_text())
    assert repeated == {
        "row": SIZE + 5,
        "place": f"a.jsonl:{SIZE + 6}",
        "duplicate_of": found[0][0].id,
    }
    [rejected] = json.loads((run.path / "rejected_input.json").read_text())
    assert rejected == {"place": f"a.jsonl:{SIZE + 7}", "reason": "no 'output'"}
    loaded = load_dataset(
        "parquet",
        data_files=str(run.candidates / "*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded["id"] == [group[0].id for group in found]


def test_system_turns_and_named_columns(tmp_path: Path) -> None:
    turns = [{"role": role, "content": role.upper()} for role in ("system", "user", "assistant")]
    [[found]] = imported(new_run(tmp_path), lines(tmp_path / "a.jsonl", [{"messages": turns}]))
    assert (found.system, found.instruction, found.output) == ("SYSTEM", "USER", "ASSISTANT")
    data = lines(tmp_path / "b.jsonl", [{"q": "Q", "c": "C", "a": "A"}])
    columns = {"instruction_column": "q", "input_column": "c", "output_column": "a"}
    other = RunDir.create(tmp_path / "other", {})
    [[found]] = imported(other, data, **columns)
    assert (found.instruction, found.input, found.output) == ("Q", "C", "A")


def test_candidates_from_elsewhere(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    rows = [
        {"id": n, "candidate": kind, **record(n), "source": f"s{n}"}
        for kind in CANDIDATES
        for n in range(3)
    ]
    found = imported(run, lines(tmp_path / "a.jsonl", rows))
    assert [[(c.id, c.candidate) for c in group] for group in found] == [
        [(str(n), kind) for kind in CANDIDATES] for n in range(3)
    ]
    entry = run.stage("import") or {}
    assert (entry["records"], entry["input"]["records"]) == (3, 12)
    # What a run holds is itself an input, and nothing changes on the way.
    again = RunDir.create(tmp_path / "again", {"command": "select"})
    assert imported(again, run.candidates) == found


def test_done_is_done(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    data = lines(tmp_path / "a.jsonl", [record(1)])
    imported(run, data)
    before = run.shard_path(0).stat().st_mtime_ns
    source = open_source(str(data))
    data.unlink()
    import_candidates(run, source, InputConfig(data=str(data)))
    assert run.shard_path(0).stat().st_mtime_ns == before


def test_another_limit_takes_other_records(tmp_path: Path) -> None:
    """The limit may change when a run is taken up again; nothing of the old one is left over."""
    run = new_run(tmp_path)
    data = lines(tmp_path / "a.jsonl", [record(n) for n in range(2 * SIZE + 5)])
    for limit, expected in ((3, 3), (None, 2 * SIZE + 5), (SIZE, SIZE), (SIZE + 1, SIZE + 1)):
        assert len(imported(run, data, limit=limit)) == expected
        assert (run.stage("import") or {})["records"] == expected
    candidates = lines(
        tmp_path / "c.jsonl", [{"id": n, "candidate": "original", **record(n)} for n in range(9)]
    )
    other = RunDir.create(tmp_path / "other", {})
    assert [group[0].id for group in imported(other, candidates, limit=2)] == ["0", "1"]


def test_an_import_cut_short_is_made_whole(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    bad = [
        *(record(n) for n in range(SIZE + 1)),
        {**record(0), "id": "x"},
        {**record(1), "id": "x"},
    ]
    with pytest.raises(CurateError, match="two different contents"):
        imported(run, lines(tmp_path / "a.jsonl", bad))
    assert run.stage("import") is None and run.shard_paths()
    assert len(imported(run, lines(tmp_path / "a.jsonl", bad[:2]), limit=1)) == 1


def test_strict_and_empty(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [record(1), {}])
    with pytest.raises(CurateError, match=r"a\.jsonl:2: no 'instruction' \(--strict\)"):
        imported(new_run(tmp_path), data, strict=True)
    with pytest.raises(CurateError, match="is empty"):
        imported(new_run(tmp_path), lines(tmp_path / "b.jsonl", []))
    assert new_run(tmp_path).stage("import") is None


def test_what_an_input_is(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [record(1)])
    moved = lines(tmp_path / "b.jsonl", [record(1)])
    plain = InputConfig(data=str(data))
    identity = input_identity(open_source(str(data)), plain)
    assert identity == input_identity(
        open_source(str(moved)), InputConfig(data=str(moved), limit=3, strict=True)
    )
    named = InputConfig(data=str(data), output_column="answer")
    assert identity != input_identity(open_source(str(data)), named)
    assert json.loads(json.dumps(identity)) == identity


def test_read_examples_counts(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [record(n) for n in range(5)])
    intake = Intake()
    config = InputConfig(data=str(data), limit=2)
    assert len(list(read_examples(open_source(str(data)), config, intake))) == 2
    assert (intake.rows, intake.records) == (2, 2)
