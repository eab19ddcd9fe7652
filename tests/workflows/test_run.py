"""`curate run` in both schedules: a real HTTP server as the teacher, a real tiny student."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from curate.pipeline.config import (
    InputConfig,
    ModelConfig,
    ReflectConfig,
    Schedule,
    ScoringConfig,
    SelectConfig,
)
from curate.pipeline.errors import BudgetReached, CurateError
from curate.pipeline.records import CANDIDATES
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.workflows.run import RunResult, run

from ..llm.faulty_server import Answer, FaultyServer, Received, completion, error
from ..stages.small_shards import small_shards

WORDS = [
    "river",
    "stone",
    "lamp",
    "winter",
    "bread",
    "copper",
    "garden",
    "signal",
    "harbour",
    "violin",
]
TOO_LONG = error(400, "This model's maximum context length is 4096 tokens")


def records(number: int = 12) -> list[dict[str, str]]:
    return [
        {
            "id": f"r{n}",
            "instruction": f"Tell rec-{n:03d} about the {WORDS[n % 10]}.",
            "output": f"The {WORDS[n % 10]} is {WORDS[(3 * n + 1) % 10]}. " * (1 + n % 3),
        }
        for n in range(number)
    ]


def number_of(request: Received) -> int:
    return int(request.prompt[request.prompt.index("rec-") + 4 :][:3])


def is_instruction(request: Received) -> bool:
    return "[New Instruction]" in request.prompt


def teach(request: Received) -> str:
    """Replies of different wording and length, so that a student prefers now one, now another."""
    n = number_of(request)
    if is_instruction(request):
        return (
            f"[New Instruction] Compare rec-{n:03d}: {' '.join(WORDS[: 1 + n % 7])}? [End]\n"
            f"[New Answer] Both are {' and '.join(WORDS[n % 4 : 6])}. [End]"
        )
    return f"[Better Answer] {' '.join(WORDS[n % 5 :])}, of {len(request.prompt) % 7}. [End]"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in records()), "utf-8")
    return path


@pytest.fixture
def server() -> Any:
    with FaultyServer(reply=teach) as server:
        yield server


def do(
    data: Path,
    out: Path,
    url: str,
    student: Path,
    schedule: Schedule,
    scoring: dict[str, Any] | None = None,
    **teacher: Any,
) -> RunResult:
    settings: dict[str, Any] = {"model": "t", "base_url": url, "max_tokens": 64} | teacher
    return run(
        ReflectConfig(input=InputConfig(data=str(data)), teacher=ModelConfig(**settings), out=out),
        SelectConfig(
            input=InputConfig(data=str(out)),
            scoring=ScoringConfig(student=str(student), device="cpu", **(scoring or {})),
        ),
        None,
        schedule=schedule,
    )


def rows(out: Path) -> dict[str, list[str]]:
    """The candidates of each record, in order."""
    return {group[0].id: [c.candidate for c in group] for group in RunDir.open(out).records()}


def final(result: RunResult) -> dict[str, dict[str, Any]]:
    selected = load_from_disk(str(result.selected.selected)).to_list()
    rejected = load_from_disk(str(result.selected.rejected)).to_list()
    return {row["id"]: {"reason": None} | row for row in selected + rejected}


def first_comparison(out: Path) -> dict[str, str]:
    """The branch that each record's scores on disk speak for, by METHOD.md section 3."""
    (folder,) = (out / "scores").iterdir()
    table = [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    ifd = {(row["id"], row["candidate"]): row["ifd"] for row in table}
    return {
        id: "instruction" if ifd[id, "instruction"] > ifd[id, "original"] else "original"
        for id, kind in ifd
        if kind == "original"
    }


def test_all_makes_every_candidate_and_each_record_leaves_once(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    out = tmp_path / "run"
    result = do(data, out, server.url, tiny_student, "all")
    assert len(server.requests) == 36 and result.reflected.statuses == {"ok": 36}
    assert set(map(tuple, rows(out).values())) == {CANDIDATES}
    assert sorted(final(result)) == sorted(f"r{n}" for n in range(12))
    counts = result.selected.counts
    assert counts["records"] == 12 == counts["selected"] + counts["rejected"]
    assert sum(counts["by_rule"].values()) == 12
    again = do(data, out, server.url, tiny_student, "all")
    assert len(server.requests) == 36 and again.reflected.asked == 0
    assert again.selected.counts["sequences"] == 0  # and no model ran
    assert final(again) == final(result)


def test_selective_asks_twice_a_record_and_for_the_chosen_branch_alone(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    out = tmp_path / "run"
    result = do(data, out, server.url, tiny_student, "selective")
    assert len(server.requests) == 24
    assert (result.reflected.asked, result.reflected.reused) == (24, 0)
    first, second = server.requests[:12], server.requests[12:]
    assert all(map(is_instruction, first)) and not any(map(is_instruction, second))
    branches = first_comparison(out)
    assert set(branches.values()) == {"original", "instruction"}  # else this shows nothing
    for request in second:
        asked_of_new = "Compare rec-" in request.prompt
        assert asked_of_new == (branches[f"r{number_of(request)}"] == "instruction")
    last = {"original": "response", "instruction": "both"}
    for id, kinds in rows(out).items():
        assert kinds == ["original", "instruction", last[branches[id]]]
    for id, row in final(result).items():
        assert row["candidate"] in (branches[id], last[branches[id]])
    entry = RunDir.open(out).stage("reflect")
    assert entry is not None and entry["step"] == "chosen"
    assert entry["input"]["records"] == 12 and entry["tokens"]["prompt"] == 24 * 11


def test_both_schedules_choose_the_same_rows(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    chosen = do(data, tmp_path / "selective", server.url, tiny_student, "selective")
    assert len(server.requests) == 24
    everything = do(data, tmp_path / "all", server.url, tiny_student, "all")
    assert final(chosen) == final(everything)
    assert len({row["candidate"] for row in final(chosen).values()}) >= 3


def test_selective_again_asks_and_scores_nothing(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    out = tmp_path / "run"
    before = do(data, out, server.url, tiny_student, "selective")
    shards = [path.read_bytes() for path in RunDir.open(out).shard_paths()]
    after = do(data, out, server.url, tiny_student, "selective")
    assert len(server.requests) == 24 and after.reflected.asked == 0
    assert after.selected.counts["sequences"] == 0
    assert final(after) == final(before)
    assert [path.read_bytes() for path in RunDir.open(out).shard_paths()] == shards


def test_selective_over_several_shards(
    tmp_path: Path,
    data: Path,
    server: FaultyServer,
    tiny_student: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = do(data, tmp_path / "one", server.url, tiny_student, "selective")
    small_shards(monkeypatch, 5)
    several = do(data, tmp_path / "several", server.url, tiny_student, "selective")
    assert len(RunDir.open(tmp_path / "several").shard_paths()) == 3
    assert len(server.requests) == 48
    assert final(one) == final(several)


def test_an_instruction_without_a_reply_is_asked_once_and_the_original_goes_on(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    def behaviour(request: Received) -> Answer | None:
        return TOO_LONG if number_of(request) == 3 and is_instruction(request) else None

    server.behaviour = behaviour
    result = do(data, tmp_path / "run", server.url, tiny_student, "selective")
    assert len(server.requests) == 24
    assert rows(tmp_path / "run")["r3"] == ["original", "instruction", "response"]
    assert final(result)["r3"]["candidate"] in ("original", "response")
    assert result.reflected.statuses == {"ok": 23, "failed": 1}


def test_a_selective_retry_asks_for_what_is_wrong_once(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    def behaviour(request: Received) -> Answer | None:
        return completion("No idea.") if number_of(request) in (3, 4) else None

    server.behaviour = behaviour
    do(data, tmp_path / "run", server.url, tiny_student, "selective")
    assert len(server.requests) == 24
    retry: dict[str, Any] = {"retry": ("unparsed",)}
    do(data, tmp_path / "run", server.url, tiny_student, "selective", **retry)
    again = Counter((number_of(r), is_instruction(r)) for r in server.requests[24:])
    assert again == {(n, kind): 1 for n in (3, 4) for kind in (True, False)}
    server.behaviour = None
    result = do(data, tmp_path / "run", server.url, tiny_student, "selective", **retry)
    assert result.reflected.statuses == {"ok": 24}
    # A rescued instruction may win now: then `both` is asked for in place of `response`.
    branches = first_comparison(tmp_path / "run")
    last = {"original": "response", "instruction": "both"}
    assert all(kinds[2] == last[branches[id]] for id, kinds in rows(tmp_path / "run").items())
    at_once = do(data, tmp_path / "at-once", server.url, tiny_student, "selective")
    assert final(at_once) == final(result)


def test_a_budget_stops_either_step_and_a_larger_one_goes_on(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    def used(request: Received) -> Answer:
        answer = json.loads(completion(teach(request)).body)
        answer["usage"] = {"prompt_tokens": 900, "completion_tokens": 60}
        return Answer(body=json.dumps(answer).encode())

    server.behaviour = used
    for budget in (8_000, 17_000):  # 12 instructions are 11,520
        with pytest.raises(BudgetReached):
            do(data, tmp_path / "run", server.url, tiny_student, "selective",
               max_total_tokens=budget)  # fmt: skip
        assert 960 * len(server.requests) <= budget
        assert (len(server.requests) > 12) == (budget > 11_520)
    do(data, tmp_path / "run", server.url, tiny_student, "selective", max_total_tokens=10**6)
    assert len(server.requests) == 24


def test_the_schedule_of_a_run_may_not_change(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    do(data, tmp_path / "run", server.url, tiny_student, "selective")
    with pytest.raises(CurateError, match='made with schedule = "selective", now it is "all"'):
        do(data, tmp_path / "run", server.url, tiny_student, "all")


@pytest.mark.parametrize("schedule", ["all", "selective"])
def test_a_student_that_is_not_there_is_told_before_the_teacher_is_paid(
    tmp_path: Path, data: Path, server: FaultyServer, schedule: Schedule
) -> None:
    with pytest.raises(CurateError, match="nobody"):
        do(data, tmp_path / "run", server.url, tmp_path / "nobody", schedule)
    assert not server.requests and not (tmp_path / "run").exists()


def test_a_length_beyond_the_context_is_told_before_the_teacher_is_paid(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    with pytest.raises(CurateError, match="--max-length 100000 is beyond"):
        do(data, tmp_path / "run", server.url, tiny_student, "all", {"max_length": 100_000})
    assert not server.requests and not (tmp_path / "run").exists()


def test_a_slow_teacher_changes_nothing(
    tmp_path: Path, data: Path, server: FaultyServer, tiny_student: Path
) -> None:
    calm = do(data, tmp_path / "calm", server.url, tiny_student, "selective")
    server.behaviour = lambda r: replace(completion(teach(r)), delay=(r.number * 7 % 5) / 50)
    slow = do(data, tmp_path / "slow", server.url, tiny_student, "selective", concurrency=3)
    assert final(calm) == final(slow)
