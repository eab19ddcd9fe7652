"""Replies from a file."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from curate.pipeline.config import InputConfig, ModelConfig, ReflectConfig
from curate.pipeline.errors import CurateError, RequestFailed
from curate.pipeline.llm.engines.recorded import RecordedEngine
from curate.pipeline.llm.protocol import Reply, Request
from curate.pipeline.records import CandidateKind
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.reflection.stage import reflect

ROWS: list[dict[str, object]] = [
    {"id": "a", "candidate": "instruction", "reply": "old"},
    {"id": "a", "candidate": "response", "reply": "é\ud800", "finish_reason": "length"},
    {"id": "a", "candidate": "instruction", "reply": "new", "further": [1]},
    {"id": 7, "candidate": "both", "reply": ""},
]


def stored(path: Path, rows: list[dict[str, object]]) -> Path:
    text = "\n\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else b"\xef\xbb\xbf" + text)
    return path


def ask(teacher: RecordedEngine, id_: str, candidate: CandidateKind) -> Reply:
    request = Request(
        id=id_,
        slot=candidate,
        messages=(),
        max_tokens=50,
        temperature=0.0,
        seed=None,
        key="0" * 32,
    )
    return asyncio.run(teacher.ask(request))


@pytest.mark.parametrize("name", ["replies.jsonl", "replies.jsonl.gz"])
def test_replies_by_slot_the_last_line_wins(tmp_path: Path, name: str) -> None:
    teacher = RecordedEngine(stored(tmp_path / name, ROWS))
    assert (teacher.name, teacher.revision) == ("recorded", None)
    assert ask(teacher, "a", "instruction") == Reply(
        text="new",
        finish_reason=None,
        max_tokens=50,
        prompt_tokens=0,  # paid for elsewhere
        completion_tokens=0,
    )
    assert ask(teacher, "a", "response").text == "é\ufffd"
    assert ask(teacher, "a", "response").finish_reason == "length"
    assert ask(teacher, "7", "both").text == ""
    with pytest.raises(RequestFailed, match=r"^no recorded reply$"):
        ask(teacher, "a", "both")
    asyncio.run(teacher.close())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"id":"a","candidate":"both"}', "no 'reply'"),
        (b'{"candidate":"both","reply":"x"}', "no 'id'"),
        (b'{"id":"a","candidate":"original","reply":"x"}', "candidate is 'original'"),
        (b'{"id":"a","candidate":["both"],"reply":"x"}', "candidate is"),
        (b'{"id":"a","candidate":"both","reply":3}', "'reply' is not a text"),
        (b'{"id":"a","candidate":"both","reply":"","finish_reason":1}', "'finish_reason'"),
        (b'{"id":"\xe9"}', "not UTF-8"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    path = stored(tmp_path / "replies.jsonl", ROWS[:1])
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    with pytest.raises(CurateError, match=f"replies.jsonl, line 2: {problem}"):
        RecordedEngine(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"cannot read the replies .*: no such file"):
        RecordedEngine(tmp_path / "none.jsonl")
    with pytest.raises(CurateError, match=r"cannot read the replies .*: is a directory"):
        RecordedEngine(tmp_path)
    whole = stored(tmp_path / "cut.gz", ROWS).read_bytes()
    for damaged in (whole[:-10], b"not packed", whole[:30] + b"\0\0\0\0" + whole[34:]):
        (tmp_path / "cut.gz").write_bytes(damaged)
        with pytest.raises(CurateError, match="cannot read the replies"):
            RecordedEngine(tmp_path / "cut.gz")


def test_another_file_of_the_same_ids_is_another_teacher_to_a_shared_journal(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"id": "1", "instruction": "Name a colour.", "output": "Red."}\n')

    def reflected(name: str, answer: str) -> tuple[int, str | None]:
        replies = tmp_path / f"{name}.jsonl"
        reply = f"[Better Answer] {answer} [End]"
        replies.write_text(json.dumps({"id": "1", "candidate": "response", "reply": reply}) + "\n")
        teacher = ModelConfig(replies=replies, journal=tmp_path / "journal")
        run = tmp_path / f"run-{name}"
        result = reflect(ReflectConfig(input=InputConfig(data=str(data)), teacher=teacher, out=run))
        made = {c.candidate: c for group in RunDir.open(run).records() for c in group}
        return result.reused, made["response"].output

    assert reflected("a", "Red or blue.") == (0, "Red or blue.")
    assert reflected("b", "Deep green.") == (0, "Deep green.")
    (tmp_path / "run-a").rename(tmp_path / "gone")
    assert reflected("a", "Red or blue.") == (1, "Red or blue.")


def test_reasoning_may_be_recorded_beside_the_reply(tmp_path: Path) -> None:
    row: dict[str, object] = {"id": "a", "candidate": "both", "reply": "b", "reasoning": "a"}
    engine = RecordedEngine(stored(tmp_path / "r.jsonl", [row]))
    assert ask(engine, "a", "both").reasoning == "a"
    asyncio.run(engine.close())
    with pytest.raises(CurateError, match="'reasoning' is not a text"):
        RecordedEngine(stored(tmp_path / "s.jsonl", [row | {"reasoning": 1}]))
