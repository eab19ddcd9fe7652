"""`curate generate --samples`: several answers a question, each asked once, under its own key."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline.errors import UsageError
from curate.pipeline.stages.generation.stage import generate

from ...llm.faulty_server import Answer, FaultyServer, Received, cut, error
from .test_stage import config, written

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [{"id": "q1", "instruction": "Say one.", "input": "now"}, {"id": "q2", "prompt": "Say two."}]
SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "seed": 5}


def rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def by_seed(request: Received) -> str:
    return f"answer {request.body['seed']} to {request.prompt[:7]}"


@pytest.mark.parametrize("name", ["s.parquet", "s.jsonl"])
def test_each_sample_is_asked_once_with_a_seed_of_its_own(tmp_path: Path, name: str) -> None:
    data, out = written(tmp_path / "q.jsonl", ROWS), tmp_path / name
    with FaultyServer(reply=by_seed) as server:
        settings = {"base_url": server.url, **SAMPLING}
        done = generate(config(data, out, "m", samples=3, **settings))
        again = generate(config(data, out, "m", samples=3, **settings))
        more = generate(config(data, out, "m", samples=4, **settings))
        bodies = [request.body for request in server.requests]
    assert {(body["temperature"], body["top_p"]) for body in bodies} == {(0.7, 0.9)}
    assert sorted(body["seed"] for body in bodies) == sorted([5, 6, 7, 8] * 2)
    assert (done.asked, again.asked, again.reused, more.asked) == (6, 0, 6, 2)
    assert (done.answers, done.format) == (6, "samples")
    found = rows(out)
    assert [(row["id"], row["sample"]) for row in found] == [
        (id, n) for id in ("q1", "q2") for n in range(4)
    ]
    first = found[0]
    assert (first["instruction"], first["input"], first["model"]) == ("Say one.", "now", "m")
    assert first["output"].startswith("answer 5") and first["finish_reason"] == "stop"
    assert len({row["reply_key"] for row in found}) == 8 and first["rating"] is None


def test_cut_and_failed_samples(tmp_path: Path) -> None:
    def behaviour(request: Received) -> Answer | None:
        if request.body["seed"] == 5:
            return cut("begun")
        return error(400, "no") if request.body["seed"] == 6 else None

    data, out = written(tmp_path / "q.jsonl", ROWS[:1]), tmp_path / "s.jsonl"
    with FaultyServer(behaviour, reply=by_seed) as server:
        done = generate(config(data, out, "m", samples=3, base_url=server.url, **SAMPLING))
    assert [(row["sample"], row["finish_reason"]) for row in rows(out)] == [
        (0, "length"), (2, "stop"),
    ]  # fmt: skip
    assert done.cut == 1 and sum(done.failed.values()) == 1


def test_one_sample_may_be_greedy_and_several_may_not(tmp_path: Path) -> None:
    data = written(tmp_path / "q.jsonl", ROWS)
    with FaultyServer(reply=lambda _: "yes") as server:
        done = generate(config(data, tmp_path / "s.jsonl", "m", samples=1, base_url=server.url))
        assert done.answers == 2
        assert "top_p" not in server.requests[0].body
        turns = written(tmp_path / "t.jsonl", [{"turns": ["a", "b"]}])
        with pytest.raises(UsageError, match="several turns"):
            generate(config(turns, tmp_path / "t.out.jsonl", "m", samples=1, base_url=server.url))
    with pytest.raises(UsageError, match="--temperature"):
        config(data, tmp_path / "s.jsonl", "m", samples=2)
    with pytest.raises(UsageError, match="--format"):
        config(data, tmp_path / "s.jsonl", "m", samples=1, format="jsonl")


def test_top_p_reaches_the_model_in_this_process(tmp_path: Path, tiny_student: Path) -> None:
    """With hardly any probability the likeliest token alone is left, whatever the temperature."""
    data = written(tmp_path / "q.jsonl", ROWS)
    greedy = generate(config(data, tmp_path / "g.jsonl", tiny_student, samples=1))
    sampled = config(
        data, tmp_path / "s.jsonl", tiny_student, samples=2, temperature=5.0, top_p=1e-9, seed=1
    )
    generate(sampled)
    best = {row["id"]: row["output"] for row in rows(greedy.out)}
    found = rows(tmp_path / "s.jsonl")
    assert len(found) == 4
    assert all(row["output"] == best[row["id"]] for row in found)
