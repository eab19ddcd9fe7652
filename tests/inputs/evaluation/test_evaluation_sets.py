"""Evaluation sets: every text in them, wherever it stands."""

import gzip
import json
from pathlib import Path

import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.evaluation.evaluation_sets import evaluation_texts, open_sets

ROWS = [
    {"id": 7, "turns": ["One?", "Two?"], "category": "math", "score": 1.5, "note": None},
    {"choices": [{"turns": ["Three."]}], "answer": {"text": "Four."}, "right": True},
]


def texts(path: Path) -> list[tuple[str, str]]:
    (source,) = open_sets([str(path)])
    found = list(evaluation_texts(source))
    assert {name for name, _, _ in found} == {source.name}
    return [(place, text) for _, place, text in found]


def test_every_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in ROWS).encode()))
    assert texts(path) == [
        ("bench.jsonl.gz:1", "One?"),
        ("bench.jsonl.gz:1", "Two?"),
        ("bench.jsonl.gz:1", "math"),
        ("bench.jsonl.gz:2", "Three."),
        ("bench.jsonl.gz:2", "Four."),
    ]


def test_a_folder_is_one_set_and_a_set_given_twice_is_one(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}), "utf-8")
    assert texts(tmp_path) == [("a.jsonl:1", "a"), ("b.jsonl:1", "b")]
    assert len(open_sets([str(tmp_path)] * 2)) == 1


def test_an_unreadable_row_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"text": "one"}\n{"text": \n{"text": "three"}\n', "utf-8")
    with pytest.raises(CurateError, match=r"--decontaminate .*set\.jsonl:2: malformed JSON"):
        texts(path)


@pytest.mark.parametrize("content", ['{"number": 3}\n', "\n"])
def test_a_set_without_text_is_an_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(CurateError, match=r"--decontaminate .*set\.jsonl: no text is in it"):
        texts(path)


def test_a_missing_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no such file or folder"):
        open_sets([str(tmp_path / "absent.jsonl")])
