"""`curate check` on replies from elsewhere; those of `curate solve` are checked in its tests."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from curate.pipeline.config import CheckConfig, CheckRules, InputConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.stages.checking.math_process import MathProcess
from curate.pipeline.stages.checking.stage import CheckResult, check

OPTIONS = "Which?\nOptions:\n(A) a kite\n(B) a line"
ROWS: list[dict[str, Any]] = [
    {"id": "n", "task": "count", "question": "How many?", "answer": 4, "reply": "The answer is 4.",
     "source": "mine"},
    {"id": "n", "reply": "The answer is 5."},
    {"id": "n", "reply": "It is 4, so\nFinal answer: 4"},
    {"id": "c", "task": "shape", "question": OPTIONS, "answer": "(B)", "reply": "Answer: A"},
    {"id": "c", "reply": "Answer: B", "finish_reason": "length"},
    {"id": "bad", "task": "shape", "question": OPTIONS, "answer": "a ball", "reply": "Answer: A"},
    {"id": "open", "task": "count", "question": "How many?", "answer": "7", "reply": "Hm."},
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    first: dict[str, dict[str, Any]] = {}
    rows = [{**first.setdefault(row["id"], row), **row} for row in ROWS]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def run(data: Path, out: Path | None, **rules: Any) -> CheckResult:
    return check(CheckConfig(input=InputConfig(data=str(data)), rules=CheckRules(**rules), out=out))


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in load_from_disk(str(folder))}


def test_every_problem_is_solved_or_unsolved_with_its_reason(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run(data, out)
    assert (result.problems, result.solved, result.rows) == (4, 1, 1)
    assert result.unsolved == {"wrong": 1, "bad_answer": 1, "unanswered": 1}
    assert result.samples == {
        "correct": 2,
        "wrong": 2,
        "truncated": 1,
        "unchecked": 1,
        "unanswered": 1,
    }
    solved = rows(out / "solved")["n"]
    assert solved["messages"] == [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "The answer is 4."},
    ]
    assert solved["pass_rate"] == pytest.approx(2 / 3)
    assert (solved["num_samples"], solved["sample"], solved["source"]) == (3, 0, "mine")
    unsolved = rows(out / "unsolved")
    assert "no option" in unsolved["bad"]["reason"]
    assert (unsolved["c"]["num_wrong"], unsolved["c"]["num_truncated"]) == (1, 1)
    verdicts = pq.read_table(out / "checked" / "auto").to_pylist()
    assert [v["verdict"] for v in verdicts if v["id"] == "n"] == ["correct", "wrong", "correct"]
    assert (out / "solved" / "README.md").is_file()


def test_the_mind_may_change_without_a_call(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run(data, out)
    assert run(out, None, keep=2).rows == 2
    assert set(rows(out / "solved")) == {"n", "n#2"}
    assert run(out, None, max_pass_rate=0.5).unsolved["above_max_pass_rate"] == 1
    assert run(out, None, min_pass_rate=0.9).unsolved["below_min_pass_rate"] == 1
    by_number = run(out, None, checker="number")
    assert by_number.unsolved["bad_answer"] == 2
    assert run(out, None).as_dict() == first.as_dict()
    assert {path.name for path in (out / "checked").iterdir()} == {"auto", "number"}


def test_accuracy_by_task_and_what_guessing_gives(data: Path, tmp_path: Path) -> None:
    every, count, shape = run(data, tmp_path / "run").tasks
    assert (every.task, count.task, shape.task) == (None, "count", "shape")
    assert every.problems == 3 and every.accuracy == pytest.approx(2 / 9)
    assert count.accuracy == pytest.approx(1 / 3) and count.chance is None
    assert (shape.chance, shape.lucky) == (0.5, 0.75)
    assert count.interval[0] < count.accuracy < count.interval[1]


def test_expressions_are_compared_in_a_process_that_may_hang(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    with MathProcess(seconds=1) as math:
        assert math.compare("1/2", "\\frac{2}{4}") == "equal"
        assert math.compare("8", "9") == "different"
        assert math.compare("5", "2003^{2002^{2001}}") == "timeout"
        assert math.compare("x^2+1", "1+x^2") == "equal"


def test_the_math_checker(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    replies = ["So $\\boxed{\\frac{2}{4}}$.", "The answer is $0.5$.", "The answer is $2$.",
               "The answer is $1/2$ or $2$.", "Nothing."]  # fmt: skip
    path = tmp_path / "samples.jsonl"
    lines = [{"id": "m", "question": "?", "answer": "1/2", "reply": reply} for reply in replies]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    result = run(path, tmp_path / "run", checker="math")
    assert result.samples == {"correct": 2, "wrong": 1, "ambiguous": 1, "unanswered": 1}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answer_column": "target"}, ["target", "reply"]),
        ({"input": {"output_column": "text"}}, ["text", "answer"]),
        ({"input": {"instruction_column": "q"}}, ["'q'", "question"]),
        ({"out": None}, ["--out"]),
    ],
)
def test_what_is_missing_is_said(
    data: Path, tmp_path: Path, change: dict[str, Any], named: list[str]
) -> None:
    options = {"out": tmp_path / "run", **change}
    source = InputConfig(data=str(data), **options.pop("input", {}))
    with pytest.raises((CurateError, UsageError)) as raised:
        check(CheckConfig(input=source, rules=CheckRules(), **options))
    assert all(word in str(raised.value) for word in named)


def test_rows_of_one_problem_stand_together(data: Path, tmp_path: Path) -> None:
    lines = data.read_text("utf-8").splitlines()
    data.write_text("\n".join([*lines, lines[0]]) + "\n", "utf-8")
    with pytest.raises(CurateError, match="sort them by id"):
        run(data, tmp_path / "run")
