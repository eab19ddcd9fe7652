"""Reflection against a real HTTP server with faults: what is asked, kept, refused and paid."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline.base.processes.signals import interruptible
from curate.pipeline.config import InputConfig, ModelConfig, ReflectConfig
from curate.pipeline.errors import BudgetReached, CurateError, UsageError
from curate.pipeline.llm.budget import prompt_ceiling
from curate.pipeline.records import CANDIDATES, Candidate
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.reflection.estimate import estimate
from curate.pipeline.stages.reflection.stage import ReflectResult, reflect
from curate.pipeline.templates import teacher_prompts

from ...disks import small_disk
from ...llm.faulty_server import (
    Answer,
    Behaviour,
    FaultyServer,
    Received,
    ReplyMaker,
    always,
    busy,
    completion,
    cut,
    drop,
    error,
    garbage,
    html,
    slow,
)
from ...llm.records_asked import (
    MODEL,
    about,
    journal_lines,
    journaled,
    key_of,
    naming,
    records,
    written,
)

KEY = "sk-very-secret-0123456789"
TOO_LONG = error(400, "This model's maximum context length is 4096 tokens", code="context_length")
NO_MARKERS = completion("I like this record as it is.")
REFUSAL = completion("I'm sorry, but I can't help with that.")
CURATE = "import sys; from curate.cli import main; main()"


def config(
    data: Path, out: Path | None, url: str = "", *, limit: int | None = None, **teacher: Any
) -> ReflectConfig:
    """The stage's configuration as `curate reflect` makes it."""
    settings: dict[str, Any] = {"model": MODEL, "base_url": url, "max_tokens": 256} | teacher
    return ReflectConfig(
        input=InputConfig(data=str(data), limit=limit), teacher=ModelConfig(**settings), out=out
    )


def shards(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in RunDir.open(run).shard_paths()}


def candidates(run: Path) -> list[Candidate]:
    return [candidate for group in RunDir.open(run).records() for candidate in group]


def by_place(run: Path) -> dict[tuple[str, str], Candidate]:
    return {(c.id, c.candidate): c for c in candidates(run)}


def statuses(run: Path, id: str) -> list[str]:
    return [c.status for c in candidates(run) if c.id == id]


class Faults:
    """Answers by the record that a request is about: each one's faults in turn, then proper ones.

    The reply to an instruction reflection names the record again, so that `both` is known too.
    """

    def __init__(self, faults: dict[str, Sequence[Answer]] | None = None) -> None:
        self.faults = {name: list(answers) for name, answers in (faults or {}).items()}
        self.asked: Counter[str] = Counter()

    def __call__(self, request: Received) -> Answer | None:
        record, kind = about(request)
        self.asked[record] += 1
        for name in (f"{record} {kind}", record):
            if self.faults.get(name):
                return self.faults[name].pop(0)
        return None


class Server(FaultyServer):
    """Its proper replies name the record that they are about."""

    def __init__(self, behaviour: Behaviour | None = None, *, reply: ReplyMaker = naming) -> None:
        super().__init__(behaviour, reply=reply)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path / "data.jsonl", records(5))


# --- the four candidates --------------------------------------------------------------------------


def test_every_record_has_four_rows_in_order_and_three_calls(tmp_path: Path, data: Path) -> None:
    with Server() as server:
        result = reflect(config(data, tmp_path / "run", server.url))
        assert len(server.requests) == 15
    rows = candidates(tmp_path / "run")
    assert [(c.id, c.candidate) for c in rows] == [
        (f"r{n}", k) for n in range(5) for k in CANDIDATES
    ]
    assert (result.records, result.asked, result.reused) == (5, 15, 0)
    assert result.statuses == {"ok": 15}
    assert result.troubled == 0
    original, instruction, response, both = rows[:4]
    assert (original.instruction, original.output) == ("Say what rec-000 is.", "It is 0.")
    assert original.teacher is None and original.reply_key is None
    assert instruction.instruction is not None and "harder rec-000" in instruction.instruction
    assert instruction.output is not None and instruction.output.startswith("A new answer")
    assert response.instruction == original.instruction
    assert both.instruction == instruction.instruction
    assert both.output not in (instruction.output, response.output)
    assert {c.teacher for c in rows if c.candidate != "original"} == {MODEL}
    assert len({c.reply_key for c in rows if c.candidate != "original"}) == 15


def test_the_manifest_adds_up_to_what_the_server_was_asked(tmp_path: Path, data: Path) -> None:
    written(data, [*records(5), records(5)[0], {"id": "x", "instruction": "no output"}])
    with Server() as server:
        reflect(config(data, tmp_path / "run", server.url))
        words = sum(len(naming(request).split()) for request in server.requests)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))
    entry = manifest["stages"]["reflect"]
    assert entry["input"]["rows"] == 7 == 5 + 1 + 1
    assert (entry["input"]["records"], entry["input"]["duplicates"]) == (5, 1)
    assert entry["input"]["rejected"] == 1 and entry["records"] == 5
    assert entry["candidates"] == {f"{kind} ok": 5 for kind in sorted(CANDIDATES)}
    assert entry["tokens"] == {"prompt": 11 * 15, "completion": words}
    rejected = json.loads((tmp_path / "run" / "rejected_input.json").read_text("utf-8"))
    assert [row["place"] for row in rejected] == ["data.jsonl:7"]


def test_input_and_system_reach_the_prompts_and_the_reflected_pair(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be a pirate."},
        {"role": "user", "content": "Greet rec-001."},
        {"role": "assistant", "content": "Ahoy."},
    ]
    with_input = {"id": "a", "instruction": "Add rec-002.", "input": "2 and 3", "output": "5"}
    data = written(tmp_path / "data.jsonl", [with_input])
    chat = written(tmp_path / "chat.jsonl", [{"id": "c", "messages": turns}])
    with Server() as server:
        reflect(config(data, tmp_path / "run", server.url))
        first = [request for request in server.requests if "harder" not in request.prompt]
        assert all("Add rec-002.\n2 and 3\n</instruction>" in request.prompt for request in first)
        reflect(config(chat, tmp_path / "chat-run", server.url))
        asked = server.requests[3:]
        assert all("Be a pirate.\n\n" in request.prompt for request in asked) and len(asked) == 3
    rows = {c.candidate: c for c in candidates(tmp_path / "run")}
    assert [rows[kind].input for kind in CANDIDATES] == ["2 and 3", "", "2 and 3", ""]
    assert {c.system for c in candidates(tmp_path / "chat-run")} == {"Be a pirate."}


def test_an_unchanged_instruction_reflection_is_a_valid_pair(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(1))

    def same(request: Received) -> str:
        if about(request)[1] == "response":
            return naming(request)
        return "[New Instruction] Say what rec-000 is. [End]\n[New Answer] It is 0. [End]"

    with Server(reply=same) as server:
        result = reflect(config(data, tmp_path / "run", server.url))
        # `both` is then the very request that `response` is: asked once.
        assert len(server.requests) == 2
    assert (result.asked, result.reused) == (2, 1)
    assert statuses(tmp_path / "run", "r0") == ["ok", "unchanged", "ok", "ok"]
    rows = {c.candidate: c for c in candidates(tmp_path / "run")}
    assert rows["instruction"].output == "It is 0."
    assert rows["both"].reply_key == rows["response"].reply_key
    assert result.troubled == 0


# --- faults ---------------------------------------------------------------------------------------


def test_passing_faults_leave_no_trace_in_the_result(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(10))
    faults = Faults(
        {
            "rec-001": [busy(retry_after=0.3)],
            "rec-002": [error(500), error(502)],
            "rec-003": [drop(0), drop(120)],
            "rec-004": [replace(slow(0.6), body=b"")],  # slow, and then nothing but a 200
            "rec-005": [garbage(), garbage(b"\xff\xfe\x00")],
            "rec-006": [html(), html(503)],
            "rec-007": [busy(), error(409)],
            "rec-008": [Answer(body=b'{"choices": []}')],
        }
    )
    gate = Faults({})
    with Server(lambda r: gate(r) if about(r)[0] == "rec-000" else faults(r)) as server:
        # The first record is answered before the web page comes: the server is one then.
        reflect(config(data, tmp_path / "run", server.url, limit=1))
        reflect(config(data, tmp_path / "run", server.url))
        assert len(server.requests) == 30 + 13
    assert not any(faults.faults.values())
    with Server() as server:
        reflect(config(data, tmp_path / "calm", server.url))
    assert shards(tmp_path / "run") == shards(tmp_path / "calm")


def test_what_stays_wrong_is_named_and_never_becomes_the_original(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(8))
    forever = {
        "rec-000": TOO_LONG,
        "rec-001": NO_MARKERS,
        "rec-002": cut("[Better Answer] A whole answer. [End]\n[New Instruction] Half"),
        "rec-003": REFUSAL,
        "rec-004": completion(""),
        "rec-005": completion("[New Instruction] A? [End] [New Answer] [End]"),
        "rec-006": completion(None, refusal="I cannot help with that."),
    }
    with Server(lambda request: forever.get(about(request)[0])) as server:
        result = reflect(config(data, tmp_path / "run", server.url))
        asked = Counter(about(request)[0] for request in server.requests)
    assert asked.pop("rec-007") == 3
    assert len(asked) == 7 and set(asked.values()) == {2}
    rows = by_place(tmp_path / "run")
    expected = {
        "r0": "failed",
        "r1": "unparsed",
        "r2": "truncated",
        "r3": "refused",
        "r4": "unparsed",
        "r5": "unparsed",
        "r6": "refused",
    }
    for id, status in expected.items():
        for kind in ("instruction", "response"):
            row = rows[id, kind]
            assert row.status == status, (id, kind, row)
            assert row.reason and row.teacher == MODEL
        assert (rows[id, "both"].status, rows[id, "both"].reason) == (
            "failed",
            "no instruction pair",
        )
        for kind in ("instruction", "response", "both"):
            row = rows[id, kind]
            assert (row.instruction, row.input, row.output) == (None, None, None)
    assert "context" in (rows["r0", "response"].reason or "")
    assert rows["r0", "instruction"].reply_key is None  # there was no reply
    assert rows["r1", "instruction"].reply_key is not None
    assert result.troubled == 21 and result.statuses["ok"] == 3


def test_the_order_of_completion_changes_no_bit(tmp_path: Path) -> None:
    small = partial(reflect, shard_size=7)
    data = written(tmp_path / "data.jsonl", records(40))
    results = []
    for concurrency in (1, 5, 64):
        order = random.Random(concurrency)
        longest = 0.002 if concurrency == 1 else 0.06

        def late(
            request: Received, order: random.Random = order, longest: float = longest
        ) -> Answer:
            return replace(completion(naming(request)), delay=order.uniform(0, longest))

        with Server(late) as server:
            run = tmp_path / f"run{concurrency}"
            small(config(data, run, server.url, concurrency=concurrency))
            assert len(server.requests) == 120
            assert server.most_at_once <= concurrency
            assert concurrency == 1 or server.most_at_once > 1
        results.append(shards(run))
    assert len(results[0]) == 6
    assert results[0] == results[1] == results[2]


# --- nothing is asked twice -----------------------------------------------------------------------


def test_a_second_run_asks_nothing(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    with Server(lambda r: NO_MARKERS if about(r)[0] == "rec-001" else None) as server:
        reflect(config(data, run, server.url))
        before, asked = shards(run), len(server.requests)
        result = reflect(config(data, run, server.url))
        assert (result.asked, len(server.requests)) == (0, asked)
        assert shards(run) == before
        for path in RunDir.open(run).shard_paths():
            path.unlink()  # lost, and made again from the journal alone
        again = reflect(config(data, run, server.url))
        assert (again.asked, again.reused, len(server.requests)) == (0, asked, asked)
    assert shards(run) == before


def test_a_damaged_shard_is_made_again_from_the_journal(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    with Server() as server:
        reflect(config(data, run, server.url))
        before = shards(run)
        path = RunDir.open(run).shard_path(0)
        path.write_bytes(before[path.name][:-200])
        assert reflect(config(data, run, server.url)).asked == 0
    assert shards(run) == before


def test_a_grown_input_pays_for_its_new_rows_alone(tmp_path: Path) -> None:
    shared = tmp_path / "journal"
    small = written(tmp_path / "small.jsonl", records(6))
    grown = written(tmp_path / "grown.jsonl", [*records(3, start=6), *reversed(records(6))])
    with Server() as server:
        reflect(config(small, tmp_path / "a", server.url, journal=shared))
        assert len(server.requests) == 18
        result = reflect(config(grown, tmp_path / "b", server.url, journal=shared))
        assert (result.asked, result.reused) == (9, 18)
        assert {about(r)[0] for r in server.requests[18:]} == {"rec-006", "rec-007", "rec-008"}
    assert not (tmp_path / "a" / "journal").exists()
    old, new = by_place(tmp_path / "a"), by_place(tmp_path / "b")
    assert all(new[place] == candidate for place, candidate in old.items())
    # What the second run itself spent, not what it found.
    entry = RunDir.open(tmp_path / "b").stage("reflect")
    assert entry is not None and entry["tokens"]["prompt"] == 9 * 11


def test_equal_requests_in_flight_are_asked_once(tmp_path: Path) -> None:
    twins = [{**records(1)[0], "id": f"twin{n}"} for n in range(6)]
    data = written(tmp_path / "data.jsonl", twins)
    with Server(lambda r: replace(completion(naming(r)), delay=0.05)) as server:
        result = reflect(config(data, tmp_path / "run", server.url))
        assert len(server.requests) == 3
    assert (result.asked, result.reused) == (3, 15)
    rows = by_place(tmp_path / "run")
    for kind in CANDIDATES:
        assert len({rows[f"twin{n}", kind].output for n in range(6)}) == 1


def test_a_raised_limit_goes_on(tmp_path: Path) -> None:
    small = partial(reflect, shard_size=4)
    data = written(tmp_path / "data.jsonl", records(13))
    run = tmp_path / "run"
    with Server() as server:
        assert small(config(data, run, server.url, limit=5)).records == 5
        assert len(server.requests) == 15
        assert small(config(data, run, server.url, limit=9)).records == 9
        assert len(server.requests) == 27
        assert small(config(data, run, server.url)).asked == 12
        small(config(data, tmp_path / "at-once", server.url))
    assert shards(run) == shards(tmp_path / "at-once")


# --- resuming and refusing to ---------------------------------------------------------------------


def test_a_smaller_limit_leaves_the_counts_of_a_finished_run(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", [*records(3), {"id": "unusable"}])
    with FaultyServer() as server:
        reflect(config(data, tmp_path / "run", server.url))
        before = RunDir.open(tmp_path / "run").stage("reflect")
        unused = (tmp_path / "run" / "rejected_input.json").read_bytes()
        reflect(config(data, tmp_path / "run", server.url, limit=1))
        after = RunDir.open(tmp_path / "run").stage("reflect")
    assert before and after and before["input"]["rows"] == 4
    assert before | {"seconds": 0} == after | {"seconds": 0}
    assert (tmp_path / "run" / "rejected_input.json").read_bytes() == unused


def test_a_smaller_limit_leaves_out_what_a_larger_one_began(tmp_path: Path) -> None:
    small = partial(reflect, shard_size=4)
    data = written(tmp_path / "data.jsonl", records(13))
    run = tmp_path / "run"
    with Server() as server:
        small(config(data, run, server.url))
        (run / "manifest.json").unlink()
        (run / "candidates" / "part-00000.parquet").unlink()  # the first may come last
        assert small(config(data, run, server.url, limit=6)).records == 6
        small(config(data, tmp_path / "at-once", server.url, limit=6))
        assert shards(run) == shards(tmp_path / "at-once")
        assert small(config(data, run, server.url)).asked == 0
        assert small(config(data, run, server.url, limit=6)).records == 13


def own_prompts(folder: Path) -> Path:
    folder.mkdir()
    for name in ("instruction", "response"):
        text = getattr(teacher_prompts(), f"reflect_{name}")
        (folder / f"reflect_{name}.txt").write_text(f"Dear teacher,\n{text}", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"model": "another"}, "teacher"),
        ({"temperature": 0.5}, "temperature"),
        ({"seed": 1}, "seed"),
        ({"prompts": "own"}, "prompts"),
        ({"data": "other"}, "the input"),
    ],
)
def test_another_configuration_is_refused_by_name(
    tmp_path: Path, data: Path, changed: dict[str, Any], field: str
) -> None:
    with Server() as server:
        reflect(config(data, tmp_path / "run", server.url))
        before = shards(tmp_path / "run")
        if changed.pop("data", None):
            data = written(tmp_path / "other.jsonl", records(6))
        if "prompts" in changed:
            changed = {"prompts": own_prompts(tmp_path / "own")}
        with pytest.raises(CurateError, match=f"was made with {field} .*choose another --out"):
            reflect(config(data, tmp_path / "run", server.url, **changed))
        assert len(server.requests) == 15
    assert shards(tmp_path / "run") == before


def test_what_may_change_may_change(tmp_path: Path, data: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved.jsonl"
    with Server() as first:
        reflect(config(data, run, first.url, api_key=KEY))
    data.rename(moved)
    with Server() as second:
        changed = config(
            moved,
            run,
            second.url,
            concurrency=3,
            api_key="another",
            max_total_tokens=10**6,
            max_tokens=512,
        )
        assert reflect(changed).asked == 0
        priced = config(moved, run, second.url, max_cost=5.0, price_in=1.0, price_out=2.0)
        result = reflect(priced)
        assert result.asked == 0
        assert result.cost == pytest.approx((result.tokens[0] + 2 * result.tokens[1]) / 1e6)


def test_other_prompts_ask_anew_even_with_the_same_journal(tmp_path: Path, data: Path) -> None:
    shared = tmp_path / "journal"
    with Server() as server:
        reflect(config(data, tmp_path / "a", server.url, journal=shared))
        prompts = own_prompts(tmp_path / "own")
        reflect(config(data, tmp_path / "b", server.url, journal=shared, prompts=prompts))
        assert len(server.requests) == 30
        assert all(r.prompt.startswith("Dear teacher,") for r in server.requests[15:])
        hot = config(data, tmp_path / "c", server.url, journal=shared, temperature=0.7, seed=3)
        reflect(hot)
        assert len(server.requests) == 45
        assert {(r.body["temperature"], r.body["seed"]) for r in server.requests[30:]} == {(0.7, 3)}


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path: Path, data: Path) -> None:
    with Server(always(slow(30))) as server:
        command = reflect_command(data, tmp_path / "run", server.url)
        with subprocess.Popen(command, stderr=subprocess.PIPE) as other:
            wait_until(lambda: bool(server.requests), other)
            with pytest.raises(CurateError, match=rf"in use: .*process {other.pid}"):
                reflect(config(data, tmp_path / "run", server.url))
            other.kill()
            other.communicate()
        server.behaviour = None
        assert reflect(config(data, tmp_path / "run", server.url)).statuses == {"ok": 15}


def test_a_prompt_that_the_server_cut_is_paid_for_and_failed(tmp_path: Path) -> None:
    long = {"id": "long", "instruction": "Sum up: " + "The robin sings. " * 500, "output": "It."}
    data, run = written(tmp_path / "data.jsonl", [long]), tmp_path / "run"
    cut = {"usage": {"prompt_tokens": 512, "completion_tokens": 5}}
    answer = json.loads(completion("Yes.").body) | cut
    with FaultyServer(always(Answer(body=json.dumps(answer).encode()))) as server:
        assert reflect(config(data, run, server.url)).troubled == 3
        assert "read 512 tokens of a prompt of more than 1" in str(candidates(run)[1].reason)
        assert set(statuses(run, "long")[1:]) == {"failed"}
        assert len(journal_lines(run / "journal")) == len(server.requests) == 2
        for path in RunDir.open(run).shard_paths():
            path.unlink()
        assert "records, 0 calls" in estimate(config(data, run, server.url))
        reflect(config(data, run, server.url))
        assert len(server.requests) == 2
        reflect(config(data, run, server.url, retry=("failed",)))
        assert len(server.requests) == 4


# --- --retry --------------------------------------------------------------------------------------

TROUBLES = {
    "rec-000": TOO_LONG,
    "rec-001": NO_MARKERS,
    "rec-002": cut(),
    "rec-003": REFUSAL,
}


@pytest.mark.parametrize(
    ("asked_for", "records_asked"),
    [
        (("failed",), ["rec-000"]),
        (("unparsed",), ["rec-001"]),
        (("truncated",), ["rec-002"]),
        (("refused",), ["rec-003"]),
        (("truncated", "refused"), ["rec-002", "rec-003"]),
    ],
)
def test_retry_takes_up_exactly_the_named_statuses(
    tmp_path: Path, data: Path, asked_for: tuple[str, ...], records_asked: list[str]
) -> None:
    run = tmp_path / "run"
    with Server(lambda r: TROUBLES.get(about(r)[0])) as server:
        reflect(config(data, run, server.url))
        before = by_place(run)
        server.behaviour = None
        done = len(server.requests)
        result = reflect(config(data, run, server.url, retry=asked_for))
        asked = Counter(about(request)[0] for request in server.requests[done:])
    # Three calls each: the rescued instruction makes `both` possible, which is asked then.
    assert asked == dict.fromkeys(records_asked, 3)
    assert result.asked == 3 * len(records_asked)
    after = by_place(run)
    rescued = [f"r{int(name[4:])}" for name in records_asked]
    for place, candidate in after.items():
        if place[0] in rescued:
            assert candidate.status == "ok"
        else:
            assert candidate == before[place]


def test_retry_works_from_the_run_itself_and_asks_each_once(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    with Server(lambda r: TROUBLES.get(about(r)[0])) as server:
        reflect(config(data, run, server.url))
        entry = RunDir.open(run).stage("reflect")
        everything = ("failed", "unparsed", "truncated", "refused")
        done = len(server.requests)
        result = reflect(config(run, None, server.url, retry=everything))
        # Still wrong: each was asked once more, `both` not at all.
        assert Counter(about(r)[0] for r in server.requests[done:]) == dict.fromkeys(TROUBLES, 2)
        assert result.troubled == 12
        server.behaviour = None
        assert reflect(config(run, None, server.url, retry=everything)).troubled == 0
        done = len(server.requests)
        assert reflect(config(run, None, server.url, retry=everything)).asked == 0
        assert len(server.requests) == done
        reflect(config(data, tmp_path / "calm", server.url))
    after = RunDir.open(run).stage("reflect")
    assert entry is not None and after is not None and after["input"] == entry["input"]
    assert shards(run) == shards(tmp_path / "calm")


def test_a_raised_max_tokens_pays_for_the_truncated_alone(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    with Server(lambda r: TROUBLES.get(about(r)[0])) as server:
        reflect(config(data, run, server.url, max_tokens=64))
        done = len(server.requests)
        for path in RunDir.open(run).shard_paths():
            path.unlink()
        # 64 were enough for what ended by itself; what failed has no reply in the journal.
        raised = reflect(config(data, run, server.url, max_tokens=128))
        assert {about(r)[0] for r in server.requests[done:]} == {"rec-000"} and raised.asked == 2
        assert statuses(run, "r2") == ["ok", "truncated", "truncated", "failed"]
        server.behaviour = None
        done = len(server.requests)
        reflect(config(data, run, server.url, max_tokens=128, retry=("truncated",)))
        assert {about(r)[0] for r in server.requests[done:]} == {"rec-002"}
        assert {r.body["max_tokens"] for r in server.requests[done:]} == {128}
    assert statuses(run, "r2") == ["ok"] * 4


def test_both_is_asked_when_a_retry_rescues_the_instruction(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(1))
    faults = Faults({"rec-000 instruction": [NO_MARKERS]})
    with Server(faults) as server:
        reflect(config(data, tmp_path / "run", server.url))
        assert len(server.requests) == 2
        row = by_place(tmp_path / "run")["r0", "both"]
        assert (row.status, row.reason, row.reply_key) == ("failed", "no instruction pair", None)
        # `failed` alone does not ask for it: its instruction is not taken up.
        reflect(config(data, tmp_path / "run", server.url, retry=("failed",)))
        assert len(server.requests) == 2
        reflect(config(data, tmp_path / "run", server.url, retry=("unparsed",)))
        assert [about(r)[1] for r in server.requests[2:]] == ["instruction", "response"]
    assert statuses(tmp_path / "run", "r0") == ["ok"] * 4


def test_a_retry_that_does_worse_keeps_the_last_usable_reply(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(1))
    with Server(always(NO_MARKERS)) as server:
        reflect(config(data, tmp_path / "run", server.url))
        server.behaviour = always(REFUSAL)
        reflect(config(data, tmp_path / "run", server.url, retry=("unparsed",)))
        assert statuses(tmp_path / "run", "r0") == ["ok", "refused", "refused", "failed"]


@pytest.mark.parametrize("where", ["beside", "inside", "unclosed"])
def test_reasoning_is_kept_in_the_journal_and_in_no_candidate(tmp_path: Path, where: str) -> None:
    """It names parts of its own, which are not to be taken for the reply's."""
    data, run = written(tmp_path / "data.jsonl", records(2)), tmp_path / "run"
    draft = "I try: [New Instruction] Draft. [End] [New Answer] Draft. [End] [Better Answer] Draft."

    def behaviour(request: Received) -> Answer:
        if where == "beside":
            return completion(naming(request), reasoning_content=draft)
        close = "" if where == "unclosed" else "</think>\n\n"
        return completion(f"<think>\n{draft}\n{close}{naming(request)}")

    with Server(behaviour) as server:
        result = reflect(config(data, run, server.url))
        assert reflect(config(data, run, server.url)).asked == 0
    if where == "unclosed":
        assert result.statuses == {"unparsed": 4, "failed": 2}
    else:
        assert result.statuses == {"ok": 6}
        asked = [completion(naming(request)) for request in server.requests]
        assert len(asked) == 6 and "Draft" not in str(candidates(run))
    lines = journal_lines(run / "journal")
    assert all(line["reasoning"].startswith(draft) for line in lines)
    assert not any("Draft" in line["text"] for line in lines)


# --- money ----------------------------------------------------------------------------------------


class Dear:
    """A server that says it used almost all that a request may cost."""

    def __init__(self) -> None:
        self.used = [0, 0]

    def __call__(self, request: Received) -> Answer:
        prompt = prompt_ceiling(request.body["messages"]) - 7
        completed = request.body["max_tokens"] - 1 - request.number % 50
        self.used[0] += prompt
        self.used[1] += completed
        answer = json.loads(completion(naming(request)).body)
        answer["usage"] = {"prompt_tokens": prompt, "completion_tokens": completed}
        return Answer(body=json.dumps(answer).encode(), delay=0.002)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_token_budget_is_never_exceeded_and_a_larger_one_goes_on(
    tmp_path: Path, data: Path, concurrency: int
) -> None:
    run, dear = tmp_path / "run", Dear()
    with Server(dear) as server:
        for budget in (1000, 9000, 9001, 17_000):
            with pytest.raises(BudgetReached, match="the same command with a larger budget") as at:
                reflect(config(data, run, server.url, max_total_tokens=budget,
                               concurrency=concurrency))  # fmt: skip
            assert at.value.exit_code == 4
            assert sum(dear.used) <= budget
        assert sum(dear.used) > 14_000  # and it is used
        result = reflect(config(data, run, server.url, max_total_tokens=10**6))
        assert len(server.requests) == 15  # nothing twice
    assert result.tokens == tuple(dear.used)


def test_the_cost_budget_is_never_exceeded(tmp_path: Path, data: Path) -> None:
    run, dear = tmp_path / "run", Dear()
    prices: dict[str, Any] = {"price_in": 2.0, "price_out": 10.0}
    with Server(dear) as server:
        with pytest.raises(BudgetReached, match=r"--max-cost 0\.05"):
            reflect(config(data, run, server.url, max_cost=0.05, **prices))
        assert 0.03 < (2 * dear.used[0] + 10 * dear.used[1]) / 1e6 <= 0.05
        result = reflect(config(data, run, server.url, max_cost=5.0, **prices))
        assert len(server.requests) == 15
    assert result.cost == pytest.approx((2 * dear.used[0] + 10 * dear.used[1]) / 1e6)


def costs(run: Path) -> tuple[float | None, str]:
    stage = RunDir.open(run).manifest["stages"]["reflect"]
    return stage["cost_usd"], stage["cost"]


def test_a_price_that_is_not_known_is_unknown_everywhere(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Server() as server:
        incomplete: list[dict[str, Any]] = [{}, {"price_in": 1.0}, {"price_out": 1.0}]
        for name, prices in zip(("none", "in", "out"), incomplete, strict=True):
            setup = config(data, tmp_path / name, server.url, **prices)
            assert "cost unknown" in estimate(setup)
            assert reflect(setup).cost is None
            assert costs(tmp_path / name) == (None, "unknown")
            assert "cost unknown" in capfd.readouterr().err
        asked = len(server.requests)
        for prices in incomplete:
            with pytest.raises(CurateError, match="--price-"):
                reflect(config(data, tmp_path / "capped", server.url, max_cost=1.0, **prices))
        assert len(server.requests) == asked and not (tmp_path / "capped").exists()
        setup = config(data, tmp_path / "both", server.url, price_in=1.0, price_out=2.0)
        result = reflect(setup)
        assert result.cost == costs(tmp_path / "both")[0]
        assert result.cost == pytest.approx((result.tokens[0] + 2 * result.tokens[1]) / 1e6)


def test_a_well_known_model_needs_no_prices(tmp_path: Path, data: Path) -> None:
    run, dear = tmp_path / "run", Dear()
    with Server(dear) as server:
        setup = config(data, run, server.url, model="gpt-4o-2024-08-06", max_cost=5.0)
        result = reflect(setup)
    assert result.cost == pytest.approx((2.5 * dear.used[0] + 10 * dear.used[1]) / 1e6)


def test_a_server_that_counts_nothing_is_charged_the_worst(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    with Server(lambda r: completion(naming(r), usage=False)) as server:
        with pytest.raises(BudgetReached):
            reflect(config(data, run, server.url, max_total_tokens=9000))
        worst = [prompt_ceiling(r.body["messages"]) + 256 for r in server.requests]
        assert 0 < sum(worst) <= 9000


def starts(server: FaultyServer) -> list[float]:
    return [request.at - server.requests[0].at for request in server.requests]


def test_requests_a_minute_are_kept_at_the_server(tmp_path: Path, data: Path) -> None:
    with Server() as server:
        reflect(config(data, tmp_path / "run", server.url, rpm=600.0))
        at = starts(server)
    assert len(at) == 15
    # 10 a second, and a second's worth at once; the first one may have come late.
    late = 0.3
    for number, start in enumerate(at):
        assert number + 1 <= 10 + 10 * (start + late) + 1
    assert at[-1] > 0.4 - late


def test_tokens_a_minute_are_kept_at_the_server(tmp_path: Path, data: Path) -> None:
    used = {"prompt_tokens": 600, "completion_tokens": 200}

    def counted(request: Received) -> Answer:
        answer = json.loads(completion(naming(request)).body) | {"usage": used}
        return Answer(body=json.dumps(answer).encode())

    with Server(counted) as server:
        setup = config(data, tmp_path / "run", server.url, tpm=360_000.0, concurrency=2)
        reflect(setup)
        at = starts(server)
    # 6,000 a second, a second's worth at once; what is in flight is known by its estimate alone.
    for number, start in enumerate(at):
        assert 800 * (number + 1) <= 6000 + 6000 * start + 2 * 800
    assert at[-1] > 0.7


def test_a_dry_run_asks_and_writes_nothing(tmp_path: Path, data: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with Server() as server:
        said = estimate(config(data, tmp_path / "run", server.url, price_in=1.0, price_out=2.0))
        assert not server.requests
    assert sorted(tmp_path.iterdir()) == before
    counts, time = said.split("\n")
    assert counts.startswith("5 records, 15 calls, about ") and counts.endswith(" USD")
    assert "(an estimate)" in counts and time == "time: not known before the first replies"
    said = estimate(config(data, None, "", limit=3))
    assert "3 records, 9 calls" in said and "cost unknown" in said


def test_a_dry_run_of_a_run_counts_its_records(tmp_path: Path, data: Path) -> None:
    with Server() as server:
        reflect(config(data, tmp_path / "run", server.url))
        setup = config(tmp_path / "run", None, server.url, model="another")
        assert estimate(setup).startswith("5 records, 15 calls")


def test_a_dry_run_counts_no_reply_that_is_there(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    faults = Faults({"rec-001 instruction": [NO_MARKERS], "rec-002 response": [TOO_LONG]})
    with Server(faults) as server:
        reflect(config(data, run, server.url, limit=3))
        spoken = len(server.requests)
        setup = config(data, run, server.url, rpm=60.0, concurrency=8)
        said = estimate(setup).split("\n")
        assert len(server.requests) == spoken
        # r0 is whole; r1 has no instruction, and so no `both`; r2's response failed for good.
        assert said[0].startswith("5 records, 6 calls, ")
        assert said[1] == "7 replies are in the journal already and are not paid for again"
        assert said[2] == "time: about 6 s at --rpm 60"
        again = estimate(replace(setup, teacher=replace(setup.teacher, retry=("failed",))))
        assert again.startswith("5 records, 7 calls, ")
        again = estimate(replace(setup, teacher=replace(setup.teacher, retry=("unparsed",))))
        assert again.startswith("5 records, 8 calls, ")
        spoken = len(server.requests)
        reflect(setup)
        assert len(server.requests) - spoken == 6


def test_the_progress_line_projects_the_totals(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.pipeline.base.progress._pace", (0.0, 0.0))
    data = written(tmp_path / "data.jsonl", [*records(20), records(1)[0]])
    counted = {"prompt_tokens": 1000, "completion_tokens": 500}

    def behaviour(request: Received) -> Answer:
        answer = json.loads(completion(naming(request)).body) | {"usage": counted}
        return Answer(body=json.dumps(answer).encode())

    with Server(behaviour) as server:
        setup = config(data, tmp_path / "run", server.url, concurrency=2, price_in=1, price_out=2)
        reflect(replace(setup, input=replace(setup.input, limit=5)))
        reflect(setup)
    lines = [line for line in capfd.readouterr().err.splitlines() if "of about" in line]
    first, later = lines[:5], lines[5:]
    assert all("tokens" in line and "of about 15,000+7,500  cost" in line for line in first)
    # 15 replies were there; 20 records in all, the duplicate line being none.
    assert later and later[-1].startswith("reflect  20/20 records")
    assert all("of about 60,000+30,000  cost " in line for line in later)
    assert later[-1].endswith("  cost 0.1200 of about 0.1200 USD")


# --- errors that concern the whole run ------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error(401, f"Incorrect API key provided: {KEY}."), r"API key \(CURATE_API_KEY\).*\*\*\*"),
        (error(404, f"The model {MODEL} does not exist", code="model_not_found"), "no such model"),
        (html(), "web page"),
    ],
)
def test_a_wrong_key_model_or_address_stops_at_once(
    tmp_path: Path,
    data: Path,
    capfd: pytest.CaptureFixture[str],
    answer: Answer,
    says: str,
) -> None:
    written(data, records(50))
    with Server(always(answer)) as server:
        with pytest.raises(CurateError, match=says) as stopped:
            reflect(config(data, tmp_path / "run", server.url, api_key=KEY, concurrency=4))
        assert (
            len(server.requests) <= 8
        )  # what was in flight: 4, and those asked with and without /v1
    assert "\n" not in str(stopped.value) and KEY not in str(stopped.value)
    assert not (tmp_path / "run").exists()  # nothing was paid for, so nothing is left


def test_the_key_is_sent_and_appears_nowhere(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    echoing = {
        "rec-001": error(400, f"maximum context length, dear {KEY}"),
        "rec-002": error(400, f"flagged by moderation: {KEY}"),
    }
    caplog.set_level(0)
    with Server(lambda r: echoing.get(about(r)[0])) as server:
        setup = config(data, tmp_path / "run", server.url, api_key=KEY)
        reflect(setup)
        assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {KEY}"}
    assert statuses(tmp_path / "run", "r1") == ["ok", "failed", "failed", "failed"]
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    for path in RunDir.open(tmp_path / "run").shard_paths():  # its pages are compressed
        assert KEY not in str(pq.read_table(path).to_pylist())
    captured = capfd.readouterr()
    assert KEY not in captured.out + captured.err + caplog.text + repr(setup)


def test_an_unreachable_server_is_told_within_seconds(tmp_path: Path, data: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        began = time.monotonic()
        with pytest.raises(CurateError, match=r"cannot reach .*is the server running"):
            reflect(config(data, tmp_path / "run", url))
        assert time.monotonic() - began < 90  # the patience is two minutes
    assert not (tmp_path / "run").exists()


def test_what_is_in_flight_when_the_run_stops_is_kept(tmp_path: Path) -> None:
    """The first one is refused at once; the others were sent, and will be paid for."""
    data = written(tmp_path / "data.jsonl", records(4))
    gate = threading.Event()

    def behaviour(request: Received) -> Answer:
        if about(request) == ("rec-000", "instruction") and not gate.is_set():
            gate.set()
            return replace(error(401), delay=0.1)
        return replace(completion(naming(request)), delay=0.4)

    with Server(behaviour) as server:
        with pytest.raises(CurateError, match="API key"):
            reflect(config(data, tmp_path / "run", server.url))
        first = len(server.requests)
        assert first == 8
        assert len(journaled(tmp_path / "run" / "journal")) == 7
        reflect(config(data, tmp_path / "run", server.url))
        assert len(server.requests) == first + 5  # the refused one, and four `both`


def test_an_error_in_the_input_further_on_loses_no_reply(tmp_path: Path) -> None:
    small = partial(reflect, shard_size=4)
    rows = [*records(9), {**records(1)[0], "output": "Something else."}]
    data = written(tmp_path / "data.jsonl", rows)
    with Server(lambda r: replace(completion(naming(r)), delay=0.2)) as server:
        with pytest.raises(CurateError, match=r"data\.jsonl:10: the id 'r0' stands for two"):
            small(config(data, tmp_path / "run", server.url))
        assert journaled(tmp_path / "run" / "journal") == {key_of(r) for r in server.requests}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"question": "a", "answer": "b"}],
        [*records(3), {**records(1)[0], "output": "Something else."}],
    ],
)
def test_an_input_that_cannot_be_used_leaves_nothing_behind(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    data = written(tmp_path / "data.jsonl", rows)
    with Server() as server:
        with pytest.raises(CurateError):
            reflect(config(data, tmp_path / "run", server.url))
        assert not (tmp_path / "run").exists()
        written(data, records(2))
        assert reflect(config(data, tmp_path / "run", server.url)).records == 2


def test_a_budget_without_prices_leaves_nothing_behind(tmp_path: Path, data: Path) -> None:
    with Server() as server:
        with pytest.raises(CurateError, match="--price-in"):
            reflect(config(data, tmp_path / "run", server.url, max_cost=1.0))
        assert not (tmp_path / "run").exists() and not server.requests


def test_usage_that_does_not_go_together(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="--base-url"):
        reflect(config(data, tmp_path / "run", engine="openai", base_url=None))
    with pytest.raises(UsageError, match="--teacher is needed"):
        reflect(config(data, tmp_path / "run", "http://localhost:1/v1", model=None))
    with pytest.raises(UsageError, match="--replies"):
        reflect(config(data, tmp_path / "run", engine="recorded"))
    with Server() as server, pytest.raises(UsageError, match="--out is needed"):
        reflect(config(data, None, server.url))
    assert not (tmp_path / "run").exists()


# --- the prompts ----------------------------------------------------------------------------------


def test_the_markers_of_a_record_reach_the_prompt_shielded(tmp_path: Path) -> None:
    text = "Write [New Instruction] rec-000 [End], then [Better Answer] x [ end ]."
    data = written(
        tmp_path / "data.jsonl",
        [{"id": "m", "instruction": text, "input": "[New Answer] y", "output": text + " Done."}],
    )
    with Server() as server:
        reflect(config(data, tmp_path / "run", server.url))
        prompts = [request.prompt for request in server.requests]
    assert len(prompts) == 3
    asks_instruction = [p for p in prompts if "[New Instruction]" in p]
    assert len(asks_instruction) == 1
    constant = teacher_prompts().reflect_instruction
    for marker in ("[New Instruction]", "[New Answer]", "[End]"):
        assert asks_instruction[0].count(marker) == constant.count(marker)
    for prompt in prompts:
        if prompt not in asks_instruction:
            constant = teacher_prompts().reflect_response
            assert prompt.count("[Better Answer]") == constant.count("[Better Answer]")
    assert sum("[\u2060New Instruction] rec-000" in p for p in prompts) == 2
    row = next(c for c in candidates(tmp_path / "run") if c.candidate == "response")
    assert row.instruction == text and row.input == "[New Answer] y"  # whole again


def test_the_new_instruction_marker_is_in_instruction_prompts_only(
    tmp_path: Path, data: Path
) -> None:
    written(data, [{**row, "output": "[New Instruction] {response} [End]"} for row in records(5)])
    with Server() as server:
        reflect(config(data, tmp_path / "run", server.url))
        asked = Counter("[New Instruction]" in request.prompt for request in server.requests)
    assert asked == {True: 5, False: 10}
    assert all(c.status == "ok" for c in candidates(tmp_path / "run"))


# --- recorded replies -----------------------------------------------------------------------------


def test_recorded_replies_belong_to_their_place(tmp_path: Path) -> None:
    twins = [{**records(1)[0], "id": id} for id in ("a", "b")]
    data = written(tmp_path / "data.jsonl", [*twins, *records(2, start=1)])
    new = "[New Instruction] New {0}? [End] [New Answer] Yes {0}. [End]"
    replies = [
        {"id": "a", "candidate": "instruction", "reply": new.format("a")},
        {"id": "b", "candidate": "instruction", "reply": new.format("b")},
        {"id": "a", "candidate": "response", "reply": "[Better Answer] a! [End]"},
        {"id": "b", "candidate": "both", "reply": "[Better Answer] b? [End]"},
        {
            "id": "r1",
            "candidate": "response",
            "reply": "[Better Answer] c",
            "finish_reason": "length",
        },
        {"id": "r1", "candidate": "both", "reply": "[Better Answer] never read [End]"},
    ]
    file = written(tmp_path / "replies.jsonl", replies)
    setup = config(data, tmp_path / "run", model=None, base_url=None, replies=file)
    result = reflect(setup)
    rows = by_place(tmp_path / "run")
    assert rows["a", "instruction"].output == "Yes a."
    assert rows["b", "instruction"].output == "Yes b."
    assert rows["a", "response"].output == "a!" and rows["b", "both"].output == "b?"
    missing = rows["b", "response"]
    assert (missing.status, missing.reason) == ("failed", "no recorded reply")
    assert statuses(tmp_path / "run", "r1") == ["ok", "failed", "truncated", "failed"]
    assert rows["r1", "both"].reason == "no instruction pair"
    assert statuses(tmp_path / "run", "r2") == ["ok", "failed", "failed", "failed"]
    assert {c.teacher for c in rows.values() if c.candidate != "original"} == {"recorded"}
    assert result.tokens == (0, 0) and result.cost is None
    assert costs(tmp_path / "run") == (None, "not sold by the token")
    assert reflect(setup).asked == 0


def test_recorded_replies_that_cannot_be_read(tmp_path: Path, data: Path) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text('{"id": "r0", "candidate": "response", "reply": "x"}\n{"id": \n', "utf-8")
    for replies, says in ((file, "line 2: not JSON"), (tmp_path / "none.jsonl", "cannot read")):
        with pytest.raises(CurateError, match=says):
            reflect(config(data, tmp_path / "run", replies=replies, base_url=None))
    assert not (tmp_path / "run").exists()


# --- processes that end early ---------------------------------------------------------------------


def reflect_command(
    data: Path, out: Path, url: str, *more: str, shard: int = 10, first: str = ""
) -> list[str]:
    """`curate reflect` in a process of its own, with small shards; `first` is done before it."""
    program = (
        f"import curate.pipeline.stages.reflection.stage as r; "
        f"r.reflect.__kwdefaults__['shard_size'] = {shard}\n"
        f"{first}\nfrom curate.cli import main; main()"
    )
    return [
        sys.executable, "-c", program, "reflect", str(data), "--out", str(out), "--teacher", MODEL,
        "--base-url", url, "--max-tokens", "256", "--concurrency", "4", *more,
    ]  # fmt: skip


def wait_until(
    true: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 30
) -> bool:
    """Wait for a condition; False when the process ended first."""
    end = time.monotonic() + seconds
    while not true():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)
    return True


def killed_until_done(
    command: list[str], server: FaultyServer, journal: Path, *, times: int, seed: int
) -> int:
    """Kill the command at random moments; how often. Asserts that nothing is asked twice."""
    moments = random.Random(seed)
    kills = 0
    while True:
        begun = len(server.requests)
        acknowledged = journaled(journal)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            if kills < times:
                requests = moments.choice((0, 1, 5, 15, 30))
                if wait_until(lambda n=begun + requests: len(server.requests) >= n, process):  # type: ignore[misc]
                    time.sleep(moments.uniform(0, 0.03))
                    process.kill()
            said = process.communicate(timeout=60)[1].decode()
        again = {key_of(r) for r in server.requests[begun:]} & acknowledged
        assert not again, f"{len(again)} acknowledged requests were asked again"
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, said
            return kills
        kills += 1


def test_kill_at_any_moment_loses_only_what_is_in_flight(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(70))
    delays = random.Random(5)

    def late(request: Received) -> Answer:
        return replace(completion(naming(request)), delay=delays.uniform(0.005, 0.03))

    run = tmp_path / "run"
    with Server(late) as server:
        command = reflect_command(data, run, server.url)
        kills = killed_until_done(command, server, run / "journal", times=6, seed=1)
        assert kills >= 5
        keys = Counter(map(key_of, server.requests))
        assert len(keys) == 210
        assert sum(keys.values()) - len(keys) <= 4 * kills
        server.behaviour = None
        subprocess.run(
            reflect_command(data, tmp_path / "calm", server.url), check=True, capture_output=True
        )
    assert shards(run) == shards(tmp_path / "calm")
    assert not [path for path in run.rglob(".*") if path.is_file()]


def test_kill_during_a_retry_pays_for_no_rescued_reply_again(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(40))
    run = tmp_path / "run"
    with Server(lambda r: NO_MARKERS if about(r)[1] == "instruction" else None) as server:
        reflect(config(data, run, server.url))
        assert len(server.requests) == 80
        server.behaviour = lambda r: replace(completion(naming(r)), delay=0.02)
        server.requests.clear()
        command = reflect_command(data, run, server.url, "--retry", "unparsed", shard=1000)
        for _ in range(2):
            begun = len(server.requests)
            with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
                wait_until(lambda n=begun + 10: len(server.requests) >= n, process)  # type: ignore[misc]
                process.kill()
                process.communicate()
        subprocess.run(command, check=True, capture_output=True)
        keys = Counter(map(key_of, server.requests))
    assert len(keys) == 80  # 40 instructions again, and 40 `both` for the first time
    assert sum(keys.values()) <= 80 + 2 * 4
    assert {c.status for c in candidates(run)} == {"ok"}


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_130_and_the_same_command_goes_on(
    tmp_path: Path, sent: signal.Signals
) -> None:
    data = written(tmp_path / "data.jsonl", records(40))
    run = tmp_path / "run"
    with Server(lambda r: replace(completion(naming(r)), delay=0.05)) as server:
        command = reflect_command(data, run, server.url)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert wait_until(lambda: len(server.requests) >= 12, process)
            process.send_signal(sent)
            out, said = (stream.decode() for stream in process.communicate(timeout=20))
        assert process.returncode == 130, said
        assert "interrupted: the same command goes on from here" in said
        assert "Traceback" not in said and "never retrieved" not in said and not out
        assert not (run / ".lock").exists()
        assert len(server.requests) < 60
        server.behaviour = None
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert "40 records" in done.stdout
        keys = Counter(map(key_of, server.requests))
        assert len(keys) == 120 and sum(keys.values()) <= 120 + 4


def test_sigterm_lets_what_is_paid_for_arrive(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(40))
    with Server(lambda r: replace(completion(naming(r)), delay=0.5)) as server:
        command = reflect_command(data, tmp_path / "run", server.url)
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            assert wait_until(lambda: len(server.requests) >= 6, process)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
        assert process.returncode == 130
        assert journaled(tmp_path / "run" / "journal") == set(map(key_of, server.requests))


def test_what_follows_in_the_process_can_be_terminated(tmp_path: Path, data: Path) -> None:
    with Server() as server, interruptible():
        before = signal.getsignal(signal.SIGTERM)
        reflect(config(data, tmp_path / "run", server.url))
        assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_stops_it_cleanly_and_it_goes_on(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(60))
    run = tmp_path / "run"
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    with Server(lambda r: replace(completion(naming(r)), delay=0.005)) as server:
        command = reflect_command(data, run, server.url, first=full, shard=1000)
        stopped = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert stopped.returncode == 1, stopped.stderr
        lines = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "cannot write the journal" in lines[0]
        assert "Traceback" not in stopped.stderr
        asked, kept = len(server.requests), len(journaled(run / "journal"))
        assert 20 < kept < 180 and asked - kept <= 4
        subprocess.run(
            reflect_command(data, run, server.url, shard=1000), check=True, capture_output=True
        )
        assert len(server.requests) == asked + 180 - kept
    assert {c.status for c in candidates(run)} == {"ok"}


def test_a_disk_that_is_really_full_loses_no_more_than_was_in_flight(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", records(60))
    disk = tmp_path / "disk"
    with (
        Server(lambda r: replace(completion(naming(r)), delay=0.01)) as server,
        small_disk(disk, "40k") as enlarge,
    ):
        setup = config(data, disk / "run", server.url, concurrency=8)
        with pytest.raises(CurateError, match="no space left on device; nothing that was"):
            reflect(setup)
        asked, kept = len(server.requests), len(journaled(disk / "run" / "journal"))
        assert 20 < kept < 170 and asked - kept <= 8 + 1
        enlarge()
        assert reflect(setup).statuses == {"ok": 180}
        assert len(server.requests) == asked + 180 - kept


def test_a_disk_too_full_for_a_shard_keeps_the_replies(tmp_path: Path) -> None:
    """The folder of shards cannot be made; what was asked by then is in the journal."""
    small = partial(reflect, shard_size=3)
    data = written(tmp_path / "data.jsonl", records(9))
    run = tmp_path / "run"
    delay = {"rec-000": 0.0, "rec-001": 0.0, "rec-002": 0.0}
    with Server() as server:
        server.behaviour = lambda r: replace(
            completion(naming(r)), delay=delay.get(about(r)[0], 0.3)
        )
        RunDir.create(run, {})  # makes the folder; taken away again, with a file in the way
        (run / "config.json").unlink()
        obstacle = run / "candidates"

        def in_the_way() -> None:
            while not server.requests:
                time.sleep(0.001)
            obstacle.write_text("a file")

        thread = threading.Thread(target=in_the_way)
        thread.start()
        with pytest.raises(CurateError, match=r"cannot write .*candidates"):
            small(config(data, run, server.url))
        thread.join()
        assert journaled(run / "journal") == {key_of(r) for r in server.requests}
        obstacle.unlink()
        asked = len(server.requests)
        small(config(data, run, server.url))
        assert len(server.requests) == 27 and asked >= 9


def test_no_loop_is_left_open(tmp_path: Path, data: Path) -> None:
    """A stage may be called from a thread, and again after an error."""
    results: list[ReflectResult] = []
    with Server() as server:
        setup = config(data, tmp_path / "run", server.url)
        thread = threading.Thread(target=lambda: results.append(reflect(setup)))
        thread.start()
        thread.join()
        assert reflect(setup).records == 5 and results[0].records == 5
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
        assert not thread.is_alive(), thread
