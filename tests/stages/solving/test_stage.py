"""`curate solve` against a real server: what is sent, paid for, kept and left out."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from curate.pipeline.commands import solve, status
from curate.pipeline.config import CheckRules, InputConfig, ModelConfig, SolveConfig, StatusConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workflows.solve import Solved

from ...llm.faulty_server import Answer, FaultyServer, Received, completion, error, slow

MODEL = "teacher-7b"
PROGRAM = "```python\ndef solve(problem):\n    print(problem)\n    return 1\nsolve('x')\n```"


def problems(number: int = 6, *, task: bool = True) -> list[dict[str, Any]]:
    return [
        {"id": f"p{n}", "question": f"What is {n} and {n}?", "answer": str(2 * n),
         **({"task": "even" if n % 2 == 0 else "odd"} if task else {})}
        for n in range(number)
    ]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path / "problems.jsonl", problems())


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def number_asked(request: Received) -> int:
    return int(re.findall(r"What is (\d+) and", request.prompt)[-1])


def right(request: Received) -> Answer:
    """The right answer to the last problem; programs and analyses where they are asked for."""
    if "one code block" in request.prompt:
        return completion(PROGRAM)
    if "Do not solve them" in request.prompt:
        return completion("Add the numbers.")
    number = number_asked(request)
    return completion(f"{number} twice is {2 * number}.\nFinal answer: {2 * number}")


def right_below(bound: int) -> Callable[[Received], Answer]:
    def behaviour(request: Received) -> Answer:
        number = number_asked(request)
        return right(request) if number < bound else completion(f"Final answer: {2 * number + 1}")

    return behaviour


def config(data: Path, out: Path, server: FaultyServer, **more: Any) -> SolveConfig:
    asked = {name: more.pop(name) for name in ("temperature", "retry", "max_tokens", "seed",
                                               "concurrency") if name in more}  # fmt: skip
    teacher = ModelConfig(model=MODEL, base_url=server.url, **{"temperature": 1.0, **asked})
    source = InputConfig(data=str(data), **more.pop("input", {}))
    rules = CheckRules(**more.pop("rules", {}))
    return SolveConfig(input=source, teacher=teacher, rules=rules, out=out, **more)


def run(data: Path, out: Path, server: FaultyServer, **more: Any) -> Solved:
    result = solve(config(data, out, server, **more))
    assert isinstance(result, Solved)
    return result


def prompts(server: FaultyServer) -> list[str]:
    return [request.prompt for request in server.requests]


def solved(out: Path) -> list[dict[str, Any]]:
    return list(load_from_disk(str(out / "solved")))


def test_problems_become_a_verified_set_and_nothing_is_paid_twice(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with FaultyServer(right_below(4)) as server:
        first = run(data, out, server, samples=3, seed=7)
        asked = len(server.requests)
        again = run(data, out, server, samples=3, seed=7)
        assert len(server.requests) == asked == 18
    assert (first.checked.solved, first.checked.samples) == (4, {"correct": 12, "wrong": 6})
    assert again.sampled.asked == 0 and again.checked.as_dict() == first.checked.as_dict()
    row = solved(out)[1]
    assert row["instruction"] == "What is 1 and 1?" and row["answer"] == "2"
    assert row["messages"][0]["content"] == "What is 1 and 1?"
    assert (row["pass_rate"], row["strategy"], row["task"]) == (1.0, "cot", "odd")
    assert sorted({request.body["seed"] for request in server.requests}) == [7, 8, 9]
    assert json.loads((out / "manifest.json").read_text())["stages"]["solve"]["problems"] == 6


def test_the_state_of_a_run_is_told(data: Path, tmp_path: Path) -> None:
    with FaultyServer(right_below(4)) as server:
        run(data, tmp_path / "run", server, samples=2)
    found = status(StatusConfig(run=str(tmp_path / "run")))
    sampled, checked = found.stages
    assert (sampled.stage, sampled.state, sampled.done, sampled.left) == (
        "solve",
        "finished",
        12,
        0,
    )
    assert (checked.stage, checked.counts) == ("check/auto", {"correct": 8, "wrong": 4})
    assert found.next[0].startswith(
        f"curate finetune {tmp_path / 'run' / 'solved'} --model STUDENT"
    )


def test_more_samples_are_added_to_a_run(data: Path, tmp_path: Path) -> None:
    with FaultyServer(right) as server:
        run(data, tmp_path / "run", server, samples=2)
        assert run(data, tmp_path / "run", server, samples=3).sampled.asked == 6
        assert len(server.requests) == 18


def test_what_failed_is_asked_again_by_retry_alone(data: Path, tmp_path: Path) -> None:
    def breaks(request: Received) -> Answer:
        return error(400, "no") if number_asked(request) == 2 else right(request)

    with FaultyServer(breaks) as server:
        first = run(data, tmp_path / "run", server, samples=1)
        assert (first.sampled.samples, first.sampled.troubled) == ({"ok": 5, "failed": 1}, 1)
        assert first.checked.unsolved == {"failed": 1}
    with FaultyServer(right) as server:
        assert run(data, tmp_path / "run", server, samples=1).sampled.asked == 0
        retried = run(data, tmp_path / "run", server, samples=1, retry=("failed",))
        assert (retried.sampled.asked, retried.checked.solved) == (1, 6)


def test_a_reply_that_was_cut_is_never_right(data: Path, tmp_path: Path) -> None:
    cut = completion("Final answer: 0", finish_reason="length")
    with FaultyServer(lambda _: cut) as server:
        found = run(data, tmp_path / "run", server, samples=1)
    assert found.checked.solved == 0 and found.checked.unsolved == {"truncated": 6}
    assert solved(tmp_path / "run") == []


@pytest.mark.parametrize("strategy", ["many-shot", "unsupervised"])
def test_the_block_of_shots_is_one_and_the_same(data: Path, tmp_path: Path, strategy: Any) -> None:
    rest = written(tmp_path / "rest.jsonl", [*problems(6), *problems(12)[6:]])
    with FaultyServer(right) as server:
        run(data, tmp_path / "r1", server, samples=2)
    shots = {"strategy": strategy, "shots": str(tmp_path / "r1")}
    with FaultyServer(right_below(9)) as server:
        found = run(rest, tmp_path / "r2", server, samples=2, num_shots=3, **shots)
    cut = [prompt.rpartition("Problem:\n")[0] for prompt in prompts(server)]
    assert len(set(cut)) == 1 and cut[0].count("What is") == 3
    assert ("twice is" in cut[0]) == (strategy == "many-shot")
    # The three shots are not asked, nor is what r1 has solved.
    assert {number_asked(request) for request in server.requests} == {6, 7, 8, 9, 10, 11}
    assert found.sampled.left_out == {"among_shots": 3, "solved_before": 3, "rejected": 0}
    shown = [json.loads(line) for line in (tmp_path / "r2/shots.jsonl").read_text().splitlines()]
    with FaultyServer(right_below(9)) as server:
        run(rest, tmp_path / "r3", server, samples=1, num_shots=5, **shots)
    more = [json.loads(line) for line in (tmp_path / "r3/shots.jsonl").read_text().splitlines()]
    assert [shot["id"] for shot in more[:3]] == [shot["id"] for shot in shown]


def test_a_program_a_task_is_written_once_and_simulated(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with FaultyServer(right) as server:
        found = run(data, out, server, samples=2, strategy="pseudocode")
        asked = len(server.requests)
        run(data, out, server, samples=2, strategy="pseudocode")
        assert len(server.requests) == asked == 2 * 2 + 12
    assert found.checked.solved == 6
    tasks = json.loads((out / "tasks.json").read_text())
    assert {task["task"] for task in tasks} == {"even", "odd"}
    assert tasks[0]["pseudocode"].endswith("return 1") and len(tasks[0]["examples"]) == 3
    assert all("Final answer" in prompt for prompt in prompts(server)[4:])
    assert not any("answer': " in prompt for prompt in prompts(server))


def test_another_model_may_write_the_programs(data: Path, tmp_path: Path) -> None:
    with FaultyServer(right) as server, FaultyServer(right) as other:
        options = {"instructor": "big", "instructor_url": other.url, "strategy": "pseudocode"}
        run(data, tmp_path / "run", server, samples=1, **options)
        run(data, tmp_path / "run", server, samples=1, **options)
    assert {request.body["model"] for request in other.requests} == {"big"}
    assert {request.body["temperature"] for request in other.requests} == {0.0}
    assert (len(other.requests), len(server.requests)) == (4, 6)


def test_pseudo_code_without_a_function_fails_its_task(data: Path, tmp_path: Path) -> None:
    def prose(request: Received) -> Answer:
        asked = "one code block" in request.prompt
        return completion("Just add them.") if asked else right(request)

    with FaultyServer(prose) as server:
        options = {"samples": 1, "strategy": "pseudocode"}
        found = run(data, tmp_path / "run", server, **options)
        assert found.sampled.samples == {"failed": 6} and len(server.requests) == 4
    with FaultyServer(right) as server:
        retried = run(data, tmp_path / "run", server, retry=("unparsed",), **options)
        assert retried.checked.solved == 6


def test_no_reply_is_asked_twice_after_a_kill(tmp_path: Path) -> None:
    rows = written(tmp_path / "many.jsonl", problems(40))
    line = [sys.executable, "-m", "curate.cli", "solve", str(rows), "--out", str(tmp_path / "run"),
            "--teacher", MODEL, "--samples", "2", "--seed", "7", "--concurrency", "4"]  # fmt: skip
    with FaultyServer(lambda request: slow(0.02, "Final answer: 1")) as server:
        with subprocess.Popen([*line, "--base-url", server.url]) as child:
            while len(server.requests) < 20 and child.poll() is None:
                time.sleep(0.01)
            child.kill()
        journal = [line for p in (tmp_path / "run/journal").glob("*.jsonl")
                   for line in p.read_text().splitlines() if line.endswith('"}')]  # fmt: skip
        kept = {(entry["id"], entry["candidate"]) for entry in map(json.loads, journal)}
        before = len(server.requests)
        found = run(rows, tmp_path / "run", server, samples=2, seed=7)
        after = server.requests[before:]
    assert len(kept) >= 16 and found.sampled.asked == 80 - len(kept)
    asked = {(f"p{number_asked(r)}", f"sample_{r.body['seed'] - 7}") for r in after}
    assert not asked & kept


def test_what_fails_before_its_first_reply_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    with FaultyServer(lambda request: error(401)) as server, pytest.raises(CurateError):
        run(data, tmp_path / "run", server)
    assert not (tmp_path / "run").exists()


def test_recorded_replies_cost_nothing(data: Path, tmp_path: Path) -> None:
    lines = [{"id": f"p{n}", "candidate": "sample_0", "reply": f"Final answer: {2 * n}"}
             for n in range(5)]  # fmt: skip
    replies = written(tmp_path / "replies.jsonl", lines)
    teacher = ModelConfig(engine="recorded", replies=replies)
    made = SolveConfig(input=InputConfig(data=str(data)), teacher=teacher, rules=CheckRules(),
                       out=tmp_path / "run", samples=1)  # fmt: skip
    found = solve(made)
    assert isinstance(found, Solved)
    assert (found.checked.solved, found.checked.unsolved) == (5, {"failed": 1})


def test_the_dry_run_counts_the_shared_part_once(data: Path, tmp_path: Path) -> None:
    shots = written(tmp_path / "shots.jsonl", [
        {"question": f"Shot {n}?", "output": "Long " * 400} for n in range(9)])  # fmt: skip
    with FaultyServer(right) as server:
        made = config(data, tmp_path / "run", server, strategy="many-shot", shots=str(shots),
                      dry_run=True)  # fmt: skip
        said = solve(made)
        assert not server.requests and not (tmp_path / "run").exists()
    assert isinstance(said, str) and "24 calls" in said and "9 shots" in said
    parts = (r"(\d+) prompt", r"charges (\d+)")
    once, every = (int(re.findall(part, said.replace(",", ""))[0]) for part in parts)
    assert every > once


def test_rows_with_an_answer_that_cannot_be_checked_are_not_paid(tmp_path: Path) -> None:
    shape = "Which?\nOptions:\n(A) a kite\n(B) a line"
    rows = [{"id": "good", "question": shape, "answer": "(B)"},
            {"id": "bad", "question": shape, "answer": "a ball"}]  # fmt: skip
    data = written(tmp_path / "d.jsonl", rows)
    with FaultyServer(lambda _: completion("Final answer: (B)")) as server:
        found = run(data, tmp_path / "run", server, samples=1)
        assert len(server.requests) == 1
    assert found.sampled.left_out["rejected"] == 1
    rejected = json.loads((tmp_path / "run" / "rejected_input.json").read_text())
    assert rejected[0]["place"] == "bad" and "no option" in rejected[0]["reason"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 0.0, "samples": 2}, ["--samples 2", "--temperature 0"]),
        ({"strategy": "many-shot"}, ["many-shot", "--shots"]),
        ({"strategy": "cot", "shots": "x.jsonl"}, ["cot", "--shots"]),
        ({"instructor": "m"}, ["pseudocode"]),
        ({"answer_column": "target"}, ["target", "question"]),
        ({"input": {"instruction_column": "q"}}, ["'q'", "question"]),
        ({"rules": {"min_pass_rate": 0.9, "max_pass_rate": 0.1}}, ["0.9", "0.1"]),
    ],
)
def test_what_does_not_go_together_is_said(
    data: Path, tmp_path: Path, options: dict[str, Any], named: list[str]
) -> None:
    with FaultyServer(right) as server:
        with pytest.raises((CurateError, UsageError)) as raised:
            run(data, tmp_path / "run", server, **options)
        assert not server.requests
    assert all(word in str(raised.value) for word in named)
    assert not (tmp_path / "run").exists()


def test_shots_without_solutions_are_refused(data: Path, tmp_path: Path) -> None:
    shots = written(tmp_path / "shots.jsonl", [{"question": "Is it?"}])
    with FaultyServer(right) as server, pytest.raises(UsageError, match="question"):
        run(data, tmp_path / "run", server, strategy="many-shot", shots=str(shots))


def test_one_program_for_problems_without_a_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "d.jsonl", problems(2, task=False))
    with FaultyServer(right) as server:
        run(data, tmp_path / "run", server, samples=1, strategy="pseudocode")
        assert len(server.requests) == 4
    assert "one program" in capsys.readouterr().err


def test_a_context_that_would_overflow_is_refused_before_a_call(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    teacher = ModelConfig(model=str(tiny_student), engine="transformers", max_tokens=200,
                          temperature=1.0)  # fmt: skip
    made = SolveConfig(input=InputConfig(data=str(data)), teacher=teacher, rules=CheckRules(),
                       out=tmp_path / "run")  # fmt: skip
    with pytest.raises(CurateError, match=r"--max-tokens 200 .*256"):
        solve(made)
    assert not (tmp_path / "run").exists()
