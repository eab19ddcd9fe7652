"""`curate synthesize --method self-instruct` against a real server."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from curate.pipeline.commands import explain, generate, reflect, status, synthesize
from curate.pipeline.config import (
    ExplainConfig,
    GenerateConfig,
    InputConfig,
    ModelConfig,
    ReflectConfig,
    StatusConfig,
    SynthesizeConfig,
)
from curate.pipeline.errors import BudgetReached, CurateError
from curate.pipeline.llm.budget import prompt_ceiling
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.instructions import all_rows
from curate.pipeline.stages.synthesis.stage import SynthesizeResult

from ...llm.faulty_server import Answer, FaultyServer, Received, completion, error, slow
from ...llm.records_asked import journal_lines, written
from .teachers import MODEL, items, left_out, made, mark_of, run, seed_file, seeds, shown, teaches


def new_requests(server: FaultyServer) -> list[Received]:
    return [one for one in server.requests if "Continue the list" in one.prompt]


def test_rounds_show_what_the_last_one_made_and_stop_at_the_number(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"

    def half(request: Received) -> Answer:
        """Every second item repeats a seed."""
        texts = items(request).split("\n")
        texts[1::2] = [f"{n}. {seeds()[0]['instruction']}" for n in range(10, 17, 2)]
        return completion("\n".join(texts))

    with FaultyServer(half) as server:
        found = run(data, out, server, number=30, seed=3)
    rows = made(out)
    assert (found.instructions, found.missing, len(rows)) == (30, 0, 30)
    assert {row["round"] for row in rows} == set(range(1, found.rounds + 1)) and found.rounds > 2
    assert len({row["id"] for row in rows}) == 30
    assert all(len(row["parents"]) == 8 and row["reply_key"] for row in rows)
    human = {seed["id"] for seed in seeds()}
    machine = [sum(p not in human for p in row["parents"]) for row in rows]
    assert {n for n, row in zip(machine, rows, strict=True) if row["round"] == 1} == {0}
    assert {n for n, row in zip(machine, rows, strict=True) if row["round"] > 1} == {2}
    bodies = [one.body for one in new_requests(server)]
    assert {(b["temperature"], b["top_p"], b["presence_penalty"]) for b in bodies} == {
        (0.7, 0.5, 2.0)
    }
    assert all(len(shown(one)) == 8 for one in new_requests(server))
    reasons = {row["reason"]: row for row in left_out(out)}
    assert found.left_out["similar"] >= 30
    assert reasons["similar"]["text"] == seeds()[0]["instruction"]
    assert reasons["similar"]["detail"].endswith("with s0")


@pytest.mark.parametrize("answers", [False, True], ids=["bare", "answers"])
def test_concurrency_and_arrival_change_nothing(tmp_path: Path, answers: bool) -> None:
    def late(request: Received) -> Answer:
        return replace(teaches(request), delay=0.02 * (request.number % 3))

    data, found = seed_file(tmp_path), []
    for concurrency in (1, 8):
        out = tmp_path / f"run{concurrency}"
        with FaultyServer(late if concurrency > 1 else teaches) as server:
            run(data, out, server, number=20, concurrency=concurrency, answers=answers)
        found.append((made(out), left_out(out)))
    assert found[0] == found[1]


def test_a_killed_run_goes_on_to_the_same_instructions(tmp_path: Path) -> None:
    data, options = seed_file(tmp_path), {"number": 40, "seed": 7, "concurrency": 4}
    with FaultyServer(lambda request: completion(items(request, 2))) as server:
        run(data, tmp_path / "whole", server, **options)
        total = len(server.requests)
    killed = Event()

    def hangs_halfway(request: Received) -> Answer:
        """Two new items a reply, so that there are many rounds."""
        hangs = request.number >= total // 2 and not killed.is_set()
        return slow(600 if hangs else 0, items(request, 2))

    line = [sys.executable, "-m", "curate.cli", "synthesize", str(data), "--out",
            str(tmp_path / "run"), "--teacher", MODEL, "--method", "self-instruct",
            "--number", "40", "--seed", "7", "--concurrency", "4"]  # fmt: skip
    with FaultyServer(hangs_halfway) as server:
        with subprocess.Popen([*line, "--base-url", server.url]) as child:
            while len(server.requests) <= total // 2 and child.poll() is None:
                time.sleep(0.01)
            child.kill()
        killed.set()
        before = len(server.requests)
        found = run(data, tmp_path / "run", server, **options)
    assert made(tmp_path / "run") == made(tmp_path / "whole")
    assert left_out(tmp_path / "run") == left_out(tmp_path / "whole")
    assert before <= total // 2 + 4 and total <= before + found.asked <= total + 4
    keys = [entry["key"] for entry in journal_lines(tmp_path / "run" / "journal")]
    assert len(keys) == len(set(keys)) == total


def test_instances_come_output_first_of_classifications(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(teaches) as server:
        found = run(data, out, server, number=8, answers=True)
        asked = len(server.requests)
        assert run(data, out, server, number=8, answers=True).asked == 0
        assert len(server.requests) == asked == 1 + 8 + 8
    rows = made(out)
    assert (found.instructions, found.rows) == (8, 16)
    assert all(row["answer_key"] and row["id"].rpartition("#")[2] in "12" for row in rows)
    pairs = {(row["input"], row["output"]) for row in rows}
    assert pairs == {
        ("Text: Fine.", "good"),
        ("Text: Poor.", "bad"),
        ("one", "two"),
        ("three", "six"),
    }
    greedy = [one.body for one in server.requests if "Continue" not in one.prompt]
    assert {(body["temperature"], "presence_penalty" in body) for body in greedy} == {(0.0, False)}


def test_an_instruction_without_a_valid_instance_is_made_up_for(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"

    def unsure(request: Received) -> Answer:
        wants = "Write examples" in request.prompt
        if wants and "Continue" not in request.prompt and mark_of(request)[0] in "0123":
            return completion("Output: this ends in a colon:")
        return completion("No") if "classification task: is" in request.prompt else teaches(request)

    with FaultyServer(unsure) as server:
        found = run(data, out, server, number=16, answers=True)
    assert found.instructions == 16 and found.left_out["ends_in_colon"] > 0


def test_a_cut_reply_loses_its_last_item_and_a_failed_one_is_a_row(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"

    def flawed(request: Received) -> Answer:
        if request.number == 1:
            return error(400, "no")
        ended = "length" if request.number == 2 else "stop"
        return completion(items(request), finish_reason=ended)

    with FaultyServer(flawed) as server:
        found = run(data, out, server, number=24, concurrency=1)
    assert (found.left_out["truncated"], found.left_out["failed"]) == (1, 1)
    assert found.instructions == 24
    reasons = {row["reason"]: row for row in left_out(out)}
    assert reasons["failed"]["text"] == "" and reasons["truncated"]["text"].startswith("Describe")


def test_a_teacher_that_brings_nothing_new_ends_the_run_as_short(tmp_path: Path) -> None:
    data = seed_file(tmp_path)
    with FaultyServer(lambda _: completion("10. Hi\n11. Say it now again.")) as server:
        found = run(data, tmp_path / "run", server, number=8)
    assert (found.instructions, found.missing) == (1, 7)
    assert found.rounds == 4 and found.left_out == {"similar": 3, "too_short": 4}


def test_a_larger_number_goes_on(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(teaches) as server:
        run(data, out, server, number=5)
        assert left_out(out)[0]["reason"] == "above_number"
        first = made(out)
        found = run(data, out, server, number=20)
    assert found.instructions == 20 and made(out)[:5] == first
    (stage,) = status(StatusConfig(run=str(out))).stages
    assert (stage.state, stage.done, stage.total) == ("finished", 20, 20)


def test_other_seeds_are_refused_by_name(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(teaches) as server:
        run(data, out, server, number=4)
        with pytest.raises(CurateError, match="has changed since"):
            run(seed_file(tmp_path, 9), out, server, number=4)
        with pytest.raises(CurateError, match="language = "):
            run(seed_file(tmp_path), out, server, number=4, language="de")


def test_a_budget_keeps_finished_rounds(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(lambda request: completion(items(request, 2))) as server:
        run(data, tmp_path / "first", server, number=1, max_tokens=64)
        worst = prompt_ceiling(server.requests[0].body["messages"]) + 64
        options = {"number": 40, "max_tokens": 64, "concurrency": 1}
        with pytest.raises(BudgetReached):
            run(data, out, server, max_total_tokens=worst + 250, **options)
        part = made(out)
        found = run(data, out, server, **options)
    assert 0 < len(part) < 40 and made(out)[: len(part)] == part and found.instructions == 40


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (seeds(7), "7 different instructions"),
        ([*seeds(7), seeds(1)[0]], "7 different instructions"),
        ([], "empty"),
        ([{"id": "a", "instruction": ""}], "none of the 1 rows"),
        ([*seeds(8), {"id": "s0", "instruction": "Another one."}], "one id"),
        ([{"instruction": f"写一首关于{n}的诗"} for n in range(9)], "--language"),
    ],
    ids=["seven", "duplicates", "none", "unusable", "one-id", "language"],
)  # fmt: skip
def test_bad_seeds_are_one_sentence_and_leave_nothing(
    tmp_path: Path, rows: list[dict[str, str]], says: str
) -> None:
    data = written(tmp_path / "bad.jsonl", rows)
    with FaultyServer(teaches) as server, pytest.raises(CurateError, match=says):
        run(data, tmp_path / "run", server, number=4)
    assert not server.requests and not (tmp_path / "run").exists()


def test_an_evaluation_set_is_not_repeated(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    text = "Name the eight words that stand in this very row for a test."
    held = written(tmp_path / "held.jsonl", [{"question": text}])

    def repeats(request: Received) -> Answer:
        return completion(f"{items(request, 4)}\n13. {text}")

    with FaultyServer(repeats) as server:
        found = run(data, out, server, number=4, decontaminate=(str(held),))
    assert found.left_out == {"contaminated": 1}


def test_a_family_leads_back_to_the_seeds_and_the_state_is_told(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(lambda request: completion(items(request, 3))) as server:
        run(data, out, server, number=9)
    last = made(out)[-1]
    found = explain(ExplainConfig(run=str(out), id=last["id"].rpartition("-")[0]))
    assert found.family[0]["id"] == last["id"] and found.family[0]["reply_key"]
    known = {row["id"] for row in found.family}
    assert all(parent in known for row in found.family for parent in row["parents"])
    assert {row["round"] for row in found.family} >= {0, last["round"]}
    (stage,) = status(StatusConfig(run=str(out))).stages
    assert (stage.stage, stage.state, stage.done, stage.left) == ("synthesize", "finished", 9, 0)


def test_other_commands_read_what_was_made(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(teaches) as server:
        run(data, out, server, number=8, answers=True)
    folder = str(out / "instructions")
    with FaultyServer() as server:
        teacher = ModelConfig(model=MODEL, base_url=server.url)
        reflected = reflect(
            ReflectConfig(input=InputConfig(data=folder), teacher=teacher, out=tmp_path / "r")
        )
        assert not isinstance(reflected, str) and reflected.records == 16
        asked = ModelConfig(model=MODEL, base_url=server.url, role="model")
        answers = generate(
            GenerateConfig(input=InputConfig(data=folder), model=asked, out=tmp_path / "a.json")
        )
    assert answers.answers == 16


def test_recorded_replies_teach(tmp_path: Path) -> None:
    lines = [
        {"id": "r1-q0", "candidate": "instructions",
         "reply": "9. Name three rivers in Asia.\n10. Write a letter to NATO about a lost hat."},
        {"id": "r1-q0-9", "candidate": "classification", "reply": "No"},
        {"id": "r1-q0-9", "candidate": "instances", "reply": "Output: Ob, Amur and Mekong"},
    ]  # fmt: skip
    teacher = ModelConfig(engine="recorded", replies=written(tmp_path / "replies.jsonl", lines))
    found = synthesize(
        SynthesizeConfig(
            input=InputConfig(data=str(seed_file(tmp_path))), teacher=teacher,
            out=tmp_path / "run", method="self-instruct", number=2, answers=True,
        )
    )  # fmt: skip
    assert isinstance(found, SynthesizeResult)
    assert (found.instructions, found.missing) == (1, 1)
    (row,) = made(tmp_path / "run")
    assert (row["instruction"], row["output"]) == (
        "Name three rivers in Asia.", "Ob, Amur and Mekong"
    )  # fmt: skip
    assert len(list(all_rows(RunDir(tmp_path / "run")))) >= 12
