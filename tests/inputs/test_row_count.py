"""How many rows an input has."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline.inputs.row_count import count_rows


def test_jsonl_and_parquet_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": 2}', "utf-8")
    assert count_rows(str(tmp_path / "a.jsonl")) == 2
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "b.parquet")
    assert count_rows(str(tmp_path / "b.parquet")) == 3
    assert count_rows(str(tmp_path)) == 5
    pq.write_table(pa.table({"id": ["1"], "candidate": ["both"]}), tmp_path / "c.parquet")
    assert count_rows(str(tmp_path)) is None


@pytest.mark.parametrize("name", ["none.jsonl", "owner/name", "-", "a.json", "b.parquet"])
def test_what_is_not_cheap_or_not_there_is_not_known(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.json").write_text("[{}]", "utf-8")
    (tmp_path / "b.parquet").write_text("no", "utf-8")
    assert count_rows(str(tmp_path / name)) is None
