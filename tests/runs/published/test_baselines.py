"""The baselines beside a selection: originals, as many, in the selection's columns."""

import statistics
from pathlib import Path
from typing import Any

import datasets
import pytest

from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.published.arrow_set import read_rows
from curate.pipeline.stages.selection.stage import SelectResult

from ...training.data import Row, chosen, records, scoring_with, select_from, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("random", "length")
ALIKE: dict[str, Any] = {"max_ifd": 9.0, "max_rifd": 9.0, "top": "7"}
"""Of these settings the originals have rows of the selection's lengths."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [row | {"topic": "words"} for row in records(18)]
    return write_jsonl(tmp_path / "candidates.jsonl", rows[4:] + rows[:4])


def selected(data: Path, out: Path, student: Path, **settings: Any) -> SelectResult:
    return select_from(data, out, scoring_with(student), **settings)


def baseline(result: SelectResult, name: str) -> datasets.Dataset:
    found = datasets.load_from_disk(str(result.baselines / name))
    assert isinstance(found, datasets.Dataset)
    return found


def test_as_many_originals_with_the_selections_columns(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    result = selected(data, tmp_path / "run", tiny_student, **ALIKE)
    assert result.counts["baselines"] == {"random": 7, "length": 7}
    entry = RunDir.open(result.run).stage(f"select/{result.student}")
    assert entry is not None and entry["counts"] == result.counts
    originals = {row["id"]: row for row in records(18) if row["candidate"] == "original"}
    selection = datasets.load_from_disk(str(result.selected))
    for name in NAMES:
        rows = baseline(result, name)
        assert rows.features == selection.features and "topic" in rows.column_names
        assert len(set(rows["id"])) == 7
        for row in rows:
            assert isinstance(row, dict)
            original = originals[row["id"]]
            assert (row["candidate"], row["decision"], row["topic"]) == ("original", None, "words")
            assert all(row[text] == original[text] for text in ("instruction", "input", "output"))
            assert row["messages"][-1] == {"role": "assistant", "content": original["output"]}
            assert row["ifd"] is not None
        assert "7 originals" in (result.baselines / name / "README.md").read_text()


def test_lengths_are_nearer_than_by_chance(data: Path, tmp_path: Path, tiny_student: Path) -> None:
    result = selected(data, tmp_path / "run", tiny_student, **ALIKE)
    wanted = mean_length(chosen(result))
    by_length, by_chance = (abs(mean_length(rows_of(result, n)) - wanted) for n in NAMES[::-1])
    assert by_length <= by_chance


def mean_length(rows: list[Row]) -> float:
    return statistics.mean(len(row["output"]) for row in rows)


def rows_of(result: SelectResult, name: str) -> list[Row]:
    return list(read_rows(result.baselines / name))


def test_the_order_of_the_input_and_doing_it_again_change_nothing(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    result = selected(data, tmp_path / "run", tiny_student, **ALIKE)
    sorted_data = write_jsonl(tmp_path / "sorted.jsonl", records(18))
    other = selected(sorted_data, tmp_path / "other", tiny_student, **ALIKE)
    for name in NAMES:
        ids = set(baseline(result, name)["id"])
        assert ids and ids == set(baseline(other, name)["id"])
    before = {name: rows_of(result, name) for name in NAMES}
    again = selected(result.run, tmp_path / "run", tiny_student, **ALIKE)
    assert {name: rows_of(again, name) for name in NAMES} == before


def test_originals_too_short_for_the_selection_are_not_called_matched(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    before = selected(data, tmp_path / "run", tiny_student, **ALIKE)
    assert (before.baselines / "length").is_dir()
    result = selected(before.run, tmp_path / "run", tiny_student)
    assert 0 < mean_length(rows_of(result, "random")) < 0.9 * mean_length(chosen(result))
    assert result.counts["baselines"] == {"random": len(chosen(result))}
    assert [folder.name for folder in result.baselines.iterdir()] == ["random"]


def test_an_empty_selection_has_empty_baselines(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    result = selected(data, tmp_path / "run", tiny_student, max_ifd=1e-9)
    assert result.counts["baselines"] == {"random": 0, "length": 0}
    for name in NAMES:
        assert baseline(result, name).num_rows == 0
