"""The forms that evaluation sets come in."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.config import InputConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.evaluation.questions import Question, read_questions
from curate.pipeline.inputs.ingest import Intake
from curate.pipeline.inputs.readers import open_source


def read(tmp_path: Path, *rows: dict[str, Any], **more: Any) -> tuple[list[Question], Intake]:
    path, intake = tmp_path / "set.jsonl", Intake()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    config = InputConfig(data=str(path), **more)
    return read_questions(open_source(str(path)), config, intake), intake


@pytest.mark.parametrize(
    ("row", "turns", "input", "system"),
    [
        ({"instruction": "a"}, ("a",), "", None),
        ({"instruction": "a", "input": "b", "output": "c"}, ("a",), "b", None),
        ({"Instruction": "a"}, ("a",), "", None),
        ({"prompt": "a", "text": "of the answer"}, ("a",), "", None),
        ({"turns": ["a", "b"]}, ("a", "b"), "", None),
        ({"conversations": "a"}, ("a",), "", None),
        ({"conversations": ["a", "b", "c"]}, ("a", "c"), "", None),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
         ("a",), "", None),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]},
         ("a",), "", "s"),
        ({"instruction": "a\ud800", "input": "\udc00"}, ("a\ufffd",), "\ufffd", None),
        ({"messages": [{"role": "developer", "content": "s"},
                       {"role": "user", "content": [{"type": "text", "text": "a"}]}]},
         ("a",), "", "s"),
        ({"messages": [{"role": "system", "content": None}, {"from": "human", "value": "a"}]},
         ("a",), "", None),
        ({"instruction": "a", "input": float("nan"), "id": float("nan")}, ("a",), "", None),
        ({"instruction": "a", "instances": [{"input": "b", "output": "c"}]}, ("a",), "b", None),
    ],
)  # fmt: skip
def test_a_row_of_each_form(
    tmp_path: Path, row: dict[str, Any], turns: tuple[str, ...], input: str, system: str | None
) -> None:
    (question,), _ = read(tmp_path, row)
    assert (question.turns, question.input, question.system) == (turns, input, system)


def test_ids_and_categories_are_kept(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path,
        {"question_id": 7, "text": "a", "category": "c"},
        {"idx": 0, "text": "b", "dataset": "d"},
        {"text": "c"},
        {"text": "c"},
    )
    assert [question.id for question in found[:2]] == ["7", "0"]
    assert [question.question_id for question in found] == [7, 0, None, None]
    assert [question.dataset for question in found] == ["c", "d", None, None]
    assert found[2] == found[3] and len(found[2].id) == 24


def test_named_columns_and_a_limit(tmp_path: Path) -> None:
    named = {"instruction_column": "q", "input_column": "more"}
    rows = [{"q": f"a{n}", "more": "b", "instruction": "no"} for n in range(3)]
    found, intake = read(tmp_path, *rows, limit=2, **named)
    assert [(question.turns, question.input) for question in found] == [
        (("a0",), "b"),
        (("a1",), "b"),
    ]
    assert (intake.rows, intake.records) == (2, 2)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": " "}, "'text' is empty"),
        ({"turns": []}, "'turns' is empty"),
        ({"text": 3}, "'text' is neither text nor a list of turns"),
        ({"turns": ["a", 3]}, "a turn of 'turns' has no text"),
        ({"instruction": "a", "input": 3}, "'input' is not text"),
        ({"topic": "a"}, "no column 'turns, .*its columns are topic"),
    ],
)
def test_a_row_that_asks_nothing_is_counted_with_its_reason(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    found, intake = read(tmp_path, {"text": "a"}, row)
    assert len(found) == 1 and intake.num_rejected == 1 and intake.rows == 2
    with pytest.raises(CurateError, match=rf"set\.jsonl:1: {reason}"):
        read(tmp_path, row)
    with pytest.raises(CurateError, match=rf"set\.jsonl:2: {reason}.*\(--strict\)"):
        read(tmp_path, {"text": "a"}, row, strict=True)
