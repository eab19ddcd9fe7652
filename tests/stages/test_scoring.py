"""`curate score`: one row for each candidate, in the input's order, whatever came between."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline.base import checksums as checks
from curate.pipeline.config import InputConfig, ScoreConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.examples import input_identity
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.runs.directory import RunDir, work_folder
from curate.pipeline.runs.importing import import_candidates
from curate.pipeline.scoring.engine import ScoringEngine
from curate.pipeline.scoring.identity import resolve
from curate.pipeline.scoring.score_files import ScoreFiles
from curate.pipeline.stages.scoring import score

from ..training.data import records, scores_of, scoring_with, select_from, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")

# INTERFACE.md
COLUMNS = [
    "id",
    "candidate",
    "nll_response",
    "nll_response_given_instruction",
    "nll_instruction",
    "nll_instruction_given_response",
    "num_response_tokens",
    "num_instruction_tokens",
    "ifd",
    "rifd",
    "ifd_status",
    "rifd_status",
]
ROWS = records(7)


@pytest.fixture
def config(tmp_path: Path, tiny_student: Path) -> ScoreConfig:
    data = write_jsonl(tmp_path / "candidates.jsonl", ROWS)
    return ScoreConfig(
        input=InputConfig(data=str(data)),
        scoring=scoring_with(tiny_student),
        out=tmp_path / "scores.parquet",
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_columns_and_order(config: ScoreConfig) -> None:
    result = score(config)
    assert (result.rows, result.already_done) == (len(ROWS), False)
    assert pq.read_schema(config.out).names[: len(COLUMNS)] == COLUMNS
    rows = rows_of(config.out)
    assert [(r["id"], r["candidate"]) for r in rows] == [(r["id"], r["candidate"]) for r in ROWS]
    for given, row in zip(ROWS, rows, strict=True):
        valid = given["status"] == "ok"
        assert row["ifd_status"] == row["rifd_status"] == ("ok" if valid else None)
        assert (row["ifd"] is not None) == (row["rifd"] is not None) == valid
    assert result.statuses == {"ok": 2 * sum(row["status"] == "ok" for row in ROWS)}
    assert not [path for path in config.out.parent.iterdir() if path.name.startswith(".")]


def test_the_scores_are_those_of_select(config: ScoreConfig, tmp_path: Path) -> None:
    score(config)
    scoring = replace(config.scoring, score_all=True, batch_tokens=70)
    selected = scores_of(select_from(Path(config.input.data), tmp_path / "run", scoring))
    rows = {(row["id"], row["candidate"]): row for row in rows_of(config.out)}
    assert {k: {n: v[n] for n in COLUMNS} for k, v in selected.items()} == {
        k: {n: v[n] for n in COLUMNS} for k, v in rows.items()
    }


def test_the_candidates_of_a_run(config: ScoreConfig, tmp_path: Path) -> None:
    score(config)
    run = select_from(Path(config.input.data), tmp_path / "run", config.scoring).run
    again = replace(config, input=InputConfig(data=str(run)), out=tmp_path / "run.parquet")
    score(again)
    assert rows_of(again.out) == rows_of(config.out)


def test_originals_only(config: ScoreConfig, tmp_path: Path) -> None:
    plain = [{"instruction": f"Say {n}.", "output": f"The {n}."} for n in range(5)]
    data = write_jsonl(tmp_path / "plain.jsonl", plain)
    result = score(replace(config, input=InputConfig(data=str(data))))
    assert result.rows == 5
    assert {row["candidate"] for row in rows_of(config.out)} == {"original"}


def test_scores_can_be_joined_back_and_rows_left_out_are_listed(
    config: ScoreConfig, tmp_path: Path, capsys: Any
) -> None:
    rows: list[Any] = [{"instruction": f"Say {n}.", "output": f"The {n}."} for n in (0, 1, 0, 2, 1)]
    rows.insert(1, {"instruction": "Say it."})
    data = write_jsonl(tmp_path / "plain.jsonl", rows)
    given = replace(config, input=InputConfig(data=str(data)))
    score(given, shard_size=2)
    scored = rows_of(config.out)
    assert [row["row"] for row in scored] == [0, 2, 4]
    beside = {name: config.out.with_name(f"{config.out.name}.{name}")
              for name in ("rejected_input.json", "duplicates.jsonl")}  # fmt: skip
    [unused] = json.loads(beside["rejected_input.json"].read_text("utf-8"))
    assert unused["place"] == "plain.jsonl:2" and "'output'" in unused["reason"]
    repeated = [
        json.loads(line) for line in beside["duplicates.jsonl"].read_text("utf-8").splitlines()
    ]
    assert {one["row"]: one["duplicate_of"] for one in repeated} == {
        3: scored[0]["id"],
        5: scored[1]["id"],
    }
    said = capsys.readouterr().err
    assert f"input rows not used: 1, see {beside['rejected_input.json']}" in said
    assert str(beside["duplicates.jsonl"]) in said
    score(replace(given, input=InputConfig(data=str(data), limit=1)))
    assert not any(path.exists() for path in beside.values())


def test_candidates_are_joined_back_by_their_own_rows(config: ScoreConfig, tmp_path: Path) -> None:
    mixed = [*ROWS[2:6], ROWS[0], ROWS[7], ROWS[1]]
    data = write_jsonl(tmp_path / "mixed.jsonl", mixed)
    score(replace(config, input=InputConfig(data=str(data))))
    for row in rows_of(config.out):
        given = mixed[row["row"]]
        assert (given["id"], given["candidate"]) == (row["id"], row["candidate"])


def test_what_is_finished_is_not_done_again(config: ScoreConfig) -> None:
    first = score(config)
    before = config.out.read_bytes()
    again = score(replace(config, scoring=replace(config.scoring, batch_tokens=64)))
    assert again.already_done
    assert (again.rows, again.statuses) == (first.rows, first.statuses)
    assert config.out.read_bytes() == before


@pytest.mark.parametrize("change", [{"template": "alpaca"}, {"max_length": 200}])
def test_another_configuration_is_refused(change: Any, config: ScoreConfig) -> None:
    score(config)
    before = config.out.read_bytes()
    with pytest.raises(CurateError, match="another input or configuration"):
        score(replace(config, scoring=replace(config.scoring, **change)))
    assert config.out.read_bytes() == before


def test_another_input_is_refused(config: ScoreConfig) -> None:
    score(config)
    write_jsonl(Path(config.input.data), ROWS[:-4])
    with pytest.raises(CurateError, match="another input or configuration"):
        score(config)


def test_an_interrupted_job_goes_on_with_what_it_has(config: ScoreConfig, tmp_path: Path) -> None:
    """What a killed process leaves: its hidden folder, with the scores of a finished shard."""
    wanted = score(replace(config, out=tmp_path / "whole.parquet"))
    source = open_source(config.input.data)
    input = {"command": "score", **input_identity(source, config.input)}
    work = work_folder(config.out, input)
    run = RunDir.create(work, input)
    import_candidates(run, source, config.input)
    identity = resolve(config.scoring, work / "scores")
    files = ScoreFiles(run, identity)
    with closing(ScoringEngine(replace(config.scoring, score_all=True), identity)) as engine:
        for _ in files.complete(engine, lambda _: None):
            pass
    shard = files.folder / run.shard_path(0).name
    mark_first(shard, 123.0)
    assert score(config).statuses == wanted.statuses
    rows, whole = rows_of(config.out), rows_of(tmp_path / "whole.parquet")
    assert rows[0].pop("nll_response") == 123.0  # not computed again
    whole[0].pop("nll_response")
    assert rows == whole
    assert not work.exists()


def mark_first(shard: Path, value: float) -> None:
    """Change the first score of a shard, to know it again."""
    table = pq.read_table(shard)
    column = table.schema.get_field_index("nll_response")
    values = [value, *table.column(column).to_pylist()[1:]]
    table = table.set_column(column, table.schema.field(column), pa.array(values, pa.float64()))
    kept = {name: note for name, note in table.schema.metadata.items() if name != checks.NOTE}
    pq.write_table(table.replace_schema_metadata(kept), shard)


def test_out_must_be_a_file(config: ScoreConfig, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="is a folder"):
        score(replace(config, out=tmp_path))
