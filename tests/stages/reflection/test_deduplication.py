"""`--dedup`: what is left out is not asked for, is listed, and adds up to the input."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.config import InputConfig, ModelConfig, ReflectConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.reflection.estimate import estimate
from curate.pipeline.stages.reflection.stage import reflect

from ...llm.faulty_server import FaultyServer

ASKED = "Write a short story about a lonely robot that finds a friend in the old lighthouse"
ROWS: list[dict[str, Any]] = [
    {"id": "a", "instruction": f"{ASKED}.", "output": "Once."},
    {"id": "b", "instruction": "Translate the word.", "input": "cat", "output": "chat"},
    {"id": "c", "instruction": f"{ASKED.upper()}!", "output": "Twice."},
    {"id": "a", "instruction": f"{ASKED}.", "output": "Once."},  # the same record once more
    {"id": "d", "instruction": "Translate the word.", "input": "dog", "output": "chien"},
    {"id": "e", "instruction": f"{ASKED} again.", "output": "Thrice."},
    {"id": "f", "output": "no instruction"},
    {"id": "g", "instruction": f"{ASKED}.", "input": "", "output": "Other."},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return path


def config(data: Path, out: Path | None, url: str = "", **settings: Any) -> ReflectConfig:
    teacher = ModelConfig(model="teacher-7b", base_url=url, max_tokens=64)
    return ReflectConfig(input=InputConfig(data=str(data)), teacher=teacher, out=out, **settings)


def left_out(run: Path) -> dict[str, tuple[str, float]]:
    path = run / "near_duplicates.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["id"]: (row["duplicate_of"], row["similarity"]) for row in rows}


def ids(run: Path) -> list[str]:
    return [group[0].id for group in RunDir.open(run).records()]


def counts(run: Path) -> dict[str, int]:
    stage = RunDir.open(run).stage("reflect")
    assert stage is not None
    found: dict[str, int] = stage["input"]
    return found


def test_near_duplicates_are_not_asked_for(data: Path, tmp_path: Path) -> None:
    with FaultyServer() as server:
        result = reflect(config(data, tmp_path / "run", server.url, dedup="near"))
        asked = " ".join(request.prompt for request in server.requests)
    assert ids(tmp_path / "run") == ["a", "b", "d"]
    assert result.records == 3 and result.asked == 9
    assert "cat" in asked and "dog" in asked and "again" not in asked
    # "again" makes a fifteenth set of three words.
    assert left_out(tmp_path / "run") == {"c": ("a", 1.0), "e": ("a", 14 / 15), "g": ("a", 1.0)}
    found = counts(tmp_path / "run")
    assert found["near_duplicates"] == 3
    assert found["rows"] == 8
    parts = ("records", "duplicates", "near_duplicates", "rejected")
    assert sum(found[name] for name in parts) == 8


def test_exact_means_the_same_words_and_off_leaves_all(data: Path, tmp_path: Path) -> None:
    with FaultyServer() as server:
        reflect(config(data, tmp_path / "exact", server.url, dedup="exact"))
        reflect(config(data, tmp_path / "off", server.url))
        strict = config(data, tmp_path / "strict", server.url, dedup="near", dedup_threshold=0.95)
        reflect(strict)
    assert ids(tmp_path / "exact") == ids(tmp_path / "strict") == ["a", "b", "d", "e"]
    assert left_out(tmp_path / "exact") == {"c": ("a", 1.0), "g": ("a", 1.0)}
    assert len(ids(tmp_path / "off")) == 6
    assert "near_duplicates" not in counts(tmp_path / "off")
    assert not (tmp_path / "off" / "near_duplicates.jsonl").exists()


def test_it_is_part_of_what_the_run_is(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with FaultyServer() as server:
        reflect(config(data, run, server.url, dedup="near"))
        for settings in ({}, {"dedup": "exact"}):
            with pytest.raises(CurateError, match="was made with dedup = "):
                reflect(config(data, run, server.url, **settings))
        with pytest.raises(CurateError, match=r"was made with dedup_threshold = 0\.8"):
            reflect(config(data, run, server.url, dedup="near", dedup_threshold=0.7))
        again = reflect(config(data, run, server.url, dedup="near"))
        assert again.asked == 0 and len(left_out(run)) == 3
        # A retry takes the run as it is.
        inside = config(run, None, server.url)
        reflect(replace(inside, teacher=replace(inside.teacher, retry=("failed",))))
        assert counts(run)["near_duplicates"] == 3
        with pytest.raises(CurateError, match="was made with dedup = "):
            reflect(config(run, None, server.url, dedup="exact"))


def test_a_larger_limit_leaves_out_the_same(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with FaultyServer() as server:
        for limit, expected in ((3, ["a", "b"]), (None, ["a", "b", "d"])):
            given = config(data, run, server.url, dedup="near")
            reflect(replace(given, input=replace(given.input, limit=limit)))
            assert ids(run) == expected
        assert len(server.requests) == 9
    assert set(left_out(run)) == {"c", "e", "g"}


def test_the_estimate_leaves_them_out(data: Path, tmp_path: Path) -> None:
    said = estimate(config(data, None, dedup="near"))
    assert said.startswith("3 records, 9 calls") and "\n3 near-duplicates are left out" in said
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_threshold_that_is_none(threshold: float, data: Path) -> None:
    with pytest.raises(UsageError, match="--dedup-threshold"):
        config(data, None, dedup="near", dedup_threshold=threshold)
