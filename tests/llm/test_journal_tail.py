"""A journal's size and speed, told from its ends."""

import json
import time
from pathlib import Path

import pytest

from curate.pipeline.llm import journal_tail
from curate.pipeline.llm.journal_tail import growth


def segment(folder: Path, name: str, ages: list[float], torn: str = "", run: str = "r") -> Path:
    """A segment with a reply of each age in seconds."""
    folder.mkdir(exist_ok=True)
    now = time.time()
    text = '"time":9' * 40
    entries = [{"key": "k", "run": run, "time": now - age, "text": text} for age in ages]
    lines = [json.dumps(entry, separators=(",", ":")) for entry in entries]
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines) + torn, "utf-8")
    return path


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    found = growth(tmp_path / "none")
    assert (found.replies, found.exact, found.per_second) == (0, True, None)


def test_replies_are_counted_over_segments_and_the_last_minute_is_the_speed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    segment(folder, "a.jsonl", [500, 400, 300])
    segment(folder, "b.jsonl", [100, 40, 30, 20, 10], torn='{"key":"k","time":1')
    segment(folder, ".hidden.jsonl", [1, 2])
    found = growth(folder)
    assert (found.replies, found.exact) == (8, True)
    assert found.per_second == pytest.approx(4 / 40, rel=0.05)
    segment(folder, "c.jsonl", [20, 10])
    assert growth(folder).per_second == pytest.approx(4 / 40 + 2 / 20, rel=0.05)


def test_of_a_shared_journal_a_run_has_its_own_replies(tmp_path: Path) -> None:
    segment(tmp_path, "a.jsonl", [5, 4, 3], run="one")
    segment(tmp_path, "b.jsonl", [2, 1], run="two")
    told = [growth(tmp_path, run=run).replies for run in ("one", "two", "three", "")]
    assert told == [3, 2, 0, 5]


def test_a_clock_that_is_hours_off_makes_no_speed(tmp_path: Path) -> None:
    segment(tmp_path, "a.jsonl", [-7200, -7201, -7202])
    assert growth(tmp_path).per_second is None


def test_a_long_journal_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_tail, "_COUNTED", 10_000)
    segment(tmp_path, "a.jsonl", [20 - n / 100 for n in range(2000)])
    found = growth(tmp_path)
    assert not found.exact and found.replies == pytest.approx(2000, rel=0.02)
    assert found.per_second == pytest.approx(100, rel=0.1)
