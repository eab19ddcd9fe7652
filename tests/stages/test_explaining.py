"""`curate explain`: what is told of one record agrees with the files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from curate.pipeline.config import (
    InputConfig,
    ModelConfig,
    ReflectConfig,
    ScoringConfig,
    SelectConfig,
)
from curate.pipeline.errors import CurateError
from curate.pipeline.records import CANDIDATES
from curate.pipeline.reporting.labels import rule_label
from curate.pipeline.stages.explaining import explain, in_words
from curate.pipeline.stages.reflection.stage import reflect
from curate.pipeline.stages.selection.stage import select

IDS = ["apple", "apple-pie", "banana", "cherry"]
NEW = "Too easy.\n[New Instruction] Weigh the {0}. [End]\n[New Answer] The {0}: 12. [End]"
BETTER = "Too short.\n[Better Answer] A {0} is a fruit, and sweet. [End]"


def reflected(folder: Path, *, journal: Path | None = None) -> Path:
    rows = [
        {"id": id, "instruction": f"What is {id}?", "output": f"{id} {id}.", "source": "me"}
        for id in IDS
    ]
    replies = [
        {"id": id, "candidate": kind, "reply": text.format(id)}
        for id in IDS[:3]
        for kind, text in (("instruction", NEW), ("response", BETTER), ("both", BETTER))
    ] + [{"id": "cherry", "candidate": "instruction", "reply": "Perfect as it is."}]
    for name, content in (("data", rows), ("replies", replies)):
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    reflect(
        ReflectConfig(
            input=InputConfig(data=str(folder / "data.jsonl")),
            teacher=ModelConfig(replies=folder / "replies.jsonl", journal=journal),
            out=folder / "run",
        )
    )
    return folder / "run"


def selected(run: Path, student: Path, **settings: Any) -> None:
    select(
        SelectConfig(
            input=InputConfig(data=str(run)),
            scoring=ScoringConfig(student=str(student), device="cpu"),
            **settings,
        )
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    run = reflected(tmp_path_factory.mktemp("explained"))
    selected(run, tiny_student, max_ifd=1e9, max_rifd=1e9)
    return run


@pytest.fixture(autouse=True)
def nothing_is_written(run: Path) -> Iterator[None]:
    before = sorted(run.rglob("*"))
    yield
    assert sorted(run.rglob("*")) == before


def test_everything_about_a_record_is_told(run: Path) -> None:
    found = explain(str(run), "banana")
    assert [c.candidate for c in found.candidates] == list(CANDIDATES)
    assert found.replies == {
        "instruction": NEW.format("banana"),
        "response": BETTER.format("banana"),
        "both": BETTER.format("banana"),
    }
    ((student, about),) = found.students.items()
    rows = load_from_disk(str(run / "selected" / student)).to_list()
    assert about["outcome"] == "selected"
    assert about["row"]["id"] == "banana"
    assert about["row"]["ifd"] == next(row["ifd"] for row in rows if row["id"] == "banana")
    text = "\n".join(in_words(found))
    for part in (student, "selected, as", "Weigh the banana.", "Too short.", "filter_rule: kept"):
        assert part in text
    for rule in ("instruction_rule", "response_rule"):
        assert about["row"]["decision"][rule] in text
    assert json.loads(json.dumps(found.as_dict()))["id"] == "banana"


def test_why_there_is_no_candidate_is_told(run: Path) -> None:
    found = explain(str(run), "cherry")
    text = "\n".join(in_words(found))
    assert "== instruction: unparsed (no markers)" in text
    assert "== response: failed (no recorded reply)" in text
    assert "== both: failed (no instruction pair)" in text
    assert found.replies == {"instruction": "Perfect as it is."}
    assert "no_instruction_reflection" in text


@pytest.mark.parametrize(
    ("asked", "found"), [("apple", "apple"), ("apple-", "apple-pie"), ("ban", "banana")]
)
def test_an_id_may_be_shortened_while_unique(run: Path, asked: str, found: str) -> None:
    assert explain(str(run), asked).id == found


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("bananna", "no record has the id 'bananna'; near ones are banana"),
        ("app", "'app' begins several ids: apple, apple-pie"),
        ("zzzzz", "no record has the id 'zzzzz'$"),
    ],
)
def test_an_id_that_is_not_one(run: Path, asked: str, says: str) -> None:
    with pytest.raises(CurateError, match=says):
        explain(str(run), asked)


def test_a_rejected_record_and_several_students(
    tmp_path: Path, run: Path, tiny_student: Path
) -> None:
    mine = reflected(tmp_path)
    assert explain(str(mine), "banana").students == {}
    selected(mine, tiny_student, max_ifd=1e-9)
    ((student, about),) = explain(str(mine), "banana").students.items()
    assert about["outcome"] == "rejected" and "is not below" in about["row"]["reason"]
    other = tmp_path / "other"
    other.symlink_to(tiny_student)
    select(
        SelectConfig(
            input=InputConfig(data=str(mine)),
            scoring=ScoringConfig(student=str(tiny_student), template="alpaca", device="cpu"),
        )
    )
    found = explain(str(mine), "banana")
    assert len(found.students) == 2 and student in found.students
    templates = {about["scoring"]["template"] for about in found.students.values()}
    assert templates == {"chat", "alpaca"}


def test_what_rejected_a_row_that_passed_the_thresholds(tmp_path: Path, tiny_student: Path) -> None:
    mine = reflected(tmp_path)
    known = tmp_path / "bench.jsonl"
    known.write_text(json.dumps({"question": "What is cherry?"}) + "\n", "utf-8")
    wide: dict[str, Any] = {"max_ifd": 1e9, "max_rifd": 1e9}
    rules = ("contaminated", "below_top", "not_diverse")
    shown: dict[str, str] = {}
    choices: list[dict[str, Any]] = [
        {"top": "1"},
        {"diverse": 1},
        {"decontaminate": (str(known),), "ngram": 3},
    ]
    for settings in choices:
        selected(mine, tiny_student, **wide, **settings)
        for id in IDS:
            text = "\n".join(in_words(explain(str(mine), id)))
            shown |= {rule: text for rule in rules if f"filter_rule: {rule}: " in text}
    assert shown.keys() == set(rules)
    assert 'contaminated: 3 words of bench.jsonl:1: "what is cherry"' in shown["contaminated"]
    assert all(rule_label("filter", rule) in text for rule, text in shown.items())


def test_a_near_duplicate_that_was_left_out(tmp_path: Path) -> None:
    rows = [{"id": f"{n}-one", "instruction": "Say it.", "output": str(n)} for n in range(2)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "replies.jsonl").write_text("", "utf-8")
    teacher = ModelConfig(replies=tmp_path / "replies.jsonl")
    given = InputConfig(data=str(data))
    mine = tmp_path / "run"
    reflect(ReflectConfig(input=given, teacher=teacher, out=mine, dedup="exact"))
    found = explain(str(mine), "1-")
    assert found.id == "1-one" and found.candidates == []
    assert "repeats that of 0-one (similarity 1.00)" in "\n".join(in_words(found))
    assert explain(str(mine), "0-one").left_out is None


def test_scores_that_were_only_begun(tmp_path: Path, tiny_student: Path) -> None:
    """A selection killed before its first shard leaves the identity alone."""
    mine = reflected(tmp_path)
    selected(mine, tiny_student)
    (scores,) = (mine / "scores").iterdir()
    for path in scores.glob("*.parquet"):
        path.unlink()
    for name in ("selected", "rejected", "decisions"):
        (folder,) = (mine / name).iterdir()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    found = explain(str(mine), "banana")
    assert "scored, not decided yet" in "\n".join(in_words(found)) or not found.students


def test_a_shared_journal_is_found_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = reflected(tmp_path, journal=Path("shared-journal"))
    assert (tmp_path / "shared-journal").is_dir()
    assert explain(str(mine), "banana").replies.keys() == {"instruction", "response", "both"}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(explain(str(mine), "banana").replies) == 3
    assert len(explain(str(mine), "banana", journal=tmp_path / "shared-journal").replies) == 3


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no such run directory"):
        explain(str(tmp_path / "none"), "x")
    with pytest.raises(CurateError, match="no run of curate"):
        explain(str(tmp_path), "x")
