"""A set of conversations through select, report, explain and export: the history is everywhere."""

import json
from pathlib import Path
from typing import Any

from curate.pipeline.config import ExportConfig, InputConfig, SelectConfig
from curate.pipeline.config.shared.inputs import Turns
from curate.pipeline.runs.published.arrow_set import read_rows
from curate.pipeline.stages.explaining import explain, in_words
from curate.pipeline.stages.exporting.stage import export
from curate.pipeline.stages.report import report
from curate.pipeline.stages.selection.stage import SelectResult, select

from ..training.data import scoring_with, write_jsonl


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TURNS = [
    turn("user", "Name a <bird>."), turn("assistant", "A robin."),
    turn("user", "And one that swims?"), turn("assistant", "A penguin swims."),
]  # fmt: skip


def selected(folder: Path, student: Path, turns: Turns) -> SelectResult:
    data = write_jsonl(folder / f"{turns}.jsonl", [{"id": "c", "messages": TURNS}])
    return select(
        SelectConfig(
            input=InputConfig(data=str(data), turns=turns),
            scoring=scoring_with(student, template="chat"),
            out=folder / turns,
            max_ifd=1e9,
            max_rifd=1e9,
        )
    )


def test_the_report_shows_what_came_before(tmp_path: Path, tiny_student: Path) -> None:
    result = selected(tmp_path, tiny_student, "last")
    page = report(str(result.run)).out.read_text("utf-8")
    assert "Earlier turns" in page and "Name a &lt;bird&gt;." in page


def test_every_exchange_with_its_history(tmp_path: Path, tiny_student: Path) -> None:
    result = selected(tmp_path, tiny_student, "all")
    rows: dict[str, Any] = {row["id"]: row for row in read_rows(result.selected)}
    assert [row["messages"] for row in rows.values()] == [TURNS[:2], TURNS]
    assert rows["c#2"]["instruction"] == "And one that swims?"
    assert "user: Name a <bird>." in list(in_words(explain(str(result.run), "c#2")))
    out = tmp_path / "exported"
    export(ExportConfig(run=str(result.run), to="llama-factory", out=out))
    lines = (out / "data.jsonl").read_text("utf-8").splitlines()
    histories = [json.loads(line)["history"] for line in lines]
    assert histories == [[], [["Name a <bird>.", "A robin."]]]
