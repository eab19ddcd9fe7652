"""`curate judge --rate`: ratings of a judge over HTTP and of recorded replies; pairs of them."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline.config import InputConfig, JudgeConfig, ModelConfig, PairsConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.inputs.examples import read_examples
from curate.pipeline.inputs.ingest import Intake
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.stages.pairs.stage import pairs
from curate.pipeline.stages.rating import rate, rating_lines

from ..llm.faulty_server import FaultyServer, Received

SAMPLES = [
    {"id": f"q{q}", "sample": n, "instruction": f"Question {q}?", "output": f"answer {n}",
     "model": "m", "finish_reason": "length" if (q, n) == (1, 2) else "stop"}
    for q in range(3) for n in range(3)
]  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def config(data: Path, out: Path | None, url: str | None = None, **more: Any) -> JudgeConfig:
    own = {name: more.pop(name) for name in list(more) if name in ("times", "second", "eft")}
    asked = {"model": None if "replies" in more else "j", "base_url": url, **more}
    return JudgeConfig(
        first=str(data),
        judge=ModelConfig(role="judge", **asked),
        columns=InputConfig(data=str(data)),
        rate=True,
        out=out,
        **own,
    )


def scores(request: Received) -> str:
    """The answer's number plus that of the rating, of which one has no score."""
    found = re.search(r"Question (\d).*answer (\d)", request.prompt, re.S)
    assert found is not None
    rating = request.body["seed"] - 10
    if (found[1], found[2], rating) == ("0", "0", 1):
        return "It is good."
    return f"Well.\nScore: {int(found[2]) + rating}"


def test_the_mean_of_the_valid_ratings_and_pairs_of_it(tmp_path: Path) -> None:
    data, out = written(tmp_path / "s.jsonl", SAMPLES), tmp_path / "rated.parquet"
    with FaultyServer(reply=scores) as server:
        settings: dict[str, Any] = {"url": server.url, "temperature": 0.7, "seed": 10}
        done = rate(config(data, out, times=2, **settings))
        again = rate(config(data, out, times=3, **settings))
        assert len(server.requests) == 8 * 3
    assert (done.asked, again.asked, again.reused) == (16, 8, 16)
    assert (done.answers, done.rated, sum(done.unrated.values())) == (9, 8, 1)
    rows = {(row["id"], row["sample"]): row for row in pq.read_table(out).to_pylist()}
    assert rows["q2", 1]["ratings"] == [1, 2, 3] and rows["q2", 1]["rating"] == 2
    assert rows["q0", 0]["ratings"] == [0, 2] and "unparsed" in rows["q0", 0]["rating_reason"]
    assert rows["q1", 2]["rating"] is None and rows["q1", 2]["rating_reason"]
    assert "rated 8 of 9 answers" in "\n".join(rating_lines(done))
    made = pairs(PairsConfig(input=InputConfig(data=str(out)), out=tmp_path / "pairs"))
    assert made.counts["pairs"] == 3


def test_recorded_ratings(tmp_path: Path) -> None:
    data = written(tmp_path / "s.jsonl", SAMPLES[:2])
    replies = [
        {"id": f"q0#{n}", "candidate": f"rating_{k}", "reply": f"Score: {n + k}"}
        for n in range(2) for k in (1, 2)
    ]  # fmt: skip
    out = tmp_path / "rated.jsonl"
    done = rate(config(data, out, replies=written(tmp_path / "r.jsonl", replies), times=2))
    assert done.mean == 2
    found = [json.loads(line)["rating"] for line in out.read_text("utf-8").splitlines()]
    assert found == [1.5, 2.5]


def test_an_answers_own_score_never_counts(tmp_path: Path) -> None:
    """What stands in the answer goes to the judge as part of it, and only the reply is read."""
    data = written(tmp_path / "s.jsonl", [{"instruction": "q", "output": "Score: 5"}])
    with FaultyServer(reply=lambda _: "No idea.") as server:
        done = rate(config(data, tmp_path / "r.jsonl", server.url))
        assert server.requests[0].prompt.endswith("<answer>\nScore: 5\n</answer>")
    assert done.rated == 0 and done.unrated == {'unparsed: no "Score:"': 1}


def test_what_cannot_be_rated_is_one_sentence(tmp_path: Path) -> None:
    data = written(tmp_path / "s.jsonl", SAMPLES)
    with pytest.raises(UsageError, match="--temperature"):
        config(data, None, times=2)
    with pytest.raises(UsageError, match="one file"):
        config(data, None, second="b.json")
    (tmp_path / "none.jsonl").write_text('{"instruction": "q"}\n', "utf-8")
    with pytest.raises(CurateError, match="none of the 1 rows"):
        rate(config(tmp_path / "none.jsonl", tmp_path / "r.jsonl", "http://localhost:1"))


RANKED = [
    {"id": "a", "instruction": "Question 1?", "output": f"answer {n}", "rank": 3 - n}
    for n in range(4)
] + [{"id": "b", "instruction": "Question 2?", "output": f"answer {n}", "rank": n} for n in (1, 2)]


def test_the_exam_and_the_judge_tasks_of_ranked_answers(tmp_path: Path) -> None:
    """Scores are the answers' numbers: right for the first prompt, wrong for the second."""
    data, eft = written(tmp_path / "ranked.jsonl", RANKED), tmp_path / "eft.jsonl"
    with FaultyServer(reply=scores) as server:
        given: dict[str, Any] = {"seed": 10, "eft": eft}
        done = rate(config(data, tmp_path / "rated.jsonl", server.url, **given))
        asked = {request.prompt for request in server.requests}
    assert done.exam is not None and done.eft is not None
    assert done.exam.pairs == 7 and done.exam.pairwise_accuracy == pytest.approx(6 / 7)
    assert (done.exam.exact, done.exam.spearman, done.exam.kendall) == (0.5, 0, 0)
    assert (done.eft.records, done.eft.left_out) == (4, {"disagrees": 2})
    tasks = [json.loads(line) for line in eft.read_text("utf-8").splitlines()]
    assert [task["id"] for task in tasks] == ["a#0", "a#1", "a#2", "a#3"]
    assert [task["output"] for task in tasks] == [f"Well.\nScore: {n}" for n in range(4)]
    assert {task["instruction"] for task in tasks} < asked
    lines = "\n".join(rating_lines(done))
    assert "0.857 of 7 pairs" in lines and "2 answers without one: disagrees" in lines
    read = read_examples(open_source(str(eft)), InputConfig(data=str(eft)), Intake())
    assert [example.output for example in read] == [task["output"] for task in tasks]


def test_preference_pairs_examine_a_judge(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Question 1?", "chosen": "answer 3", "rejected": "answer 1"},
        {"chosen": [{"role": "user", "content": "Question 2?"},
                    {"role": "assistant", "content": "answer 2"}],
         "rejected": [{"role": "user", "content": "Question 2?"},
                      {"role": "assistant", "content": "answer 4"}]},
    ]  # fmt: skip
    data = written(tmp_path / "pairs.jsonl", rows)
    with FaultyServer(reply=scores) as server:
        done = rate(config(data, tmp_path / "rated.jsonl", server.url, seed=10))
    assert done.exam is not None
    assert (done.answers, done.exam.pairs, done.exam.pairwise_accuracy) == (4, 2, 0.5)


def test_judge_tasks_need_ranks_and_ratings(tmp_path: Path) -> None:
    data = written(tmp_path / "s.jsonl", SAMPLES)
    with pytest.raises(UsageError, match="'rank'"):
        rate(config(data, tmp_path / "r.jsonl", "http://localhost:1", eft=tmp_path / "eft.jsonl"))
    with pytest.raises(UsageError, match="--rate"):
        JudgeConfig(first="a", second="b", judge=ModelConfig(), eft=tmp_path / "eft.jsonl",
                    columns=InputConfig(data="a"))  # fmt: skip
