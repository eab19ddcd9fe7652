"""`curate judge`: published logs, and a judge over HTTP in both orders."""

import gzip
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.config import InputConfig, JudgeConfig, ModelConfig
from curate.pipeline.errors import BudgetReached, CurateError, UsageError
from curate.pipeline.stages.judging import Judged, judge, outcome_lines, recompute

from ..conftest import shared
from ..llm.faulty_server import Answer, FaultyServer, Received, completion, cut

# --- recorded judgements --------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "counts"),
    [("vicuna", (44, 15, 21)), ("koala", (85, 36, 59)), ("sinstruct", (111, 61, 80))],
)
def test_published_reviews_are_counted_from_their_texts(
    tmp_path: Path, name: str, counts: tuple[int, int, int]
) -> None:
    path = shared(f"data/judgments/cherry5_vs_alpaca_{name}_gpt4.json.gz")
    log = json.loads(gzip.decompress(path.read_bytes()))
    for row in log["data"]:
        row["scores"] = row["scores_reverse"] = "[1.0, 10.0]"
    (tmp_path / "log.json").write_text(json.dumps(log), "utf-8")
    for place in (path, tmp_path / "log.json"):
        found = recompute(place).as_dict()
        assert (found["wins"], found["ties"], found["losses"]) == counts
        assert found["winning_score"] == (counts[0] - counts[2]) / sum(counts) + 1
        assert found["unparsed"] == 0


@pytest.mark.shared
@pytest.mark.parametrize("name", ["alpaca-7b", "recycled-wizardlm-7b-v1.0"])
def test_published_annotations_give_the_leaderboards_numbers(name: str) -> None:
    board = shared("data/alpaca_eval/alpaca_eval_gpt4_leaderboard.csv").read_text("utf-8")
    row = next(line.split(",") for line in board.splitlines() if line.startswith(f"{name},"))
    found = recompute(shared(f"data/alpaca_eval/{name}_gpt4_annotations.json.gz")).as_dict()
    assert found["win_rate"] == pytest.approx(float(row[1]), abs=1e-9)
    assert found["standard_error"] == pytest.approx(float(row[2]), abs=1e-9)
    assert [found["wins"], found["losses"], found["ties"]] == [int(x) for x in row[3:6]]


def test_ratings_are_told_by_their_columns(tmp_path: Path) -> None:
    rows = [
        {"question_id": 81, "model": "m", "judge": ["j", "single-v1"], "user_prompt": "…",
         "judgment": f"Good. Rating: [[{score}]]", "score": -1, "turn": turn, "tstamp": 1.5}
        for score, turn in ((8, 1), (6, 2))
    ]  # fmt: skip
    log = written(tmp_path / "gpt-4_single.jsonl", rows)
    found = recompute(log)
    assert found.as_dict()["models"]["m"] == {
        "mean": 7, "interval": (6, 8), "rated": 2, "turns": {"1": 8, "2": 6},
    }  # fmt: skip
    assert list(outcome_lines(found)) == [
        "m: mean 7.000 [95 %: 6.000 to 8.000] of 2 ratings; turn 1 8.000, turn 2 6.000"
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("[]", "is empty"),
        ('{"data": []}', "is empty"),
        ('{"data": [1]}', "not a list of judgements"),
        ('[{"question": 1}]', "no log of judgements: its columns are question"),
        ('[{"review": "8 7", "review_reverse": "7 8"}, {"review": "8 7"}]', "2: no 'review_rev"),
        ('[{"review": "8 7"', "malformed JSON"),
        ('{"review": "8 7"\n', "log.json:1: malformed JSON"),
    ],
)
def test_what_is_no_log_is_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "log.json").write_text(content, "utf-8")
    with pytest.raises(CurateError, match=says):
        recompute(tmp_path / "log.json")
    with pytest.raises(CurateError, match="no such file"):
        recompute(tmp_path / "none.json")


# --- a judge --------------------------------------------------------------------------------------

QUESTIONS = [f"Question {number}?" for number in range(6)]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def answers(model: str, questions: list[str] = QUESTIONS) -> list[dict[str, Any]]:
    return [
        {"instruction": q, "output": f"{model} says {q}", "generator": model, "dataset": d}
        for q, d in zip(questions, ["x", "y"] * len(questions), strict=False)
    ]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    a = tmp_path / "a.json"
    a.write_text(json.dumps(answers("good")), "utf-8")
    return a, written(tmp_path / "b.jsonl", answers("bad")[::-1])


def prefers_good(request: Received) -> str:
    """8 for the good model's answer and 5 for the bad one's, wherever they stand."""
    first = request.prompt.index("good says") < request.prompt.index("bad says")
    return "8 5\nSo it is." if first else "5 8\nSo it is."


def config(files: tuple[Path, Path], url: str | None, **more: Any) -> JudgeConfig:
    asked = {name: more.pop(name) for name in list(more) if name in ModelConfig.__slots__}
    asked = {"model": "j", "base_url": url, "max_tokens": 64, **asked}
    return JudgeConfig(
        first=str(files[0]),
        second=str(files[1]),
        judge=ModelConfig(role="judge", **asked),
        columns=InputConfig(data=str(files[0]), limit=more.pop("limit", None)),
        **{"out": files[0].parent / "out", **more},
    )


def test_both_orders_of_each_pair_are_asked_once(files: tuple[Path, Path]) -> None:
    with FaultyServer(reply=prefers_good) as server:
        done = judge(config(files, server.url))
        again = judge(config(files, server.url))
        assert len(server.requests) == 12
        prompts = {request.prompt for request in server.requests}
        assert len(prompts) == 12
        temperatures = {request.body["temperature"] for request in server.requests}
        assert temperatures == {0}
    found = done.as_dict()
    assert (found["wins"], found["ties"], found["losses"]) == (6, 0, 0)
    assert found["winning_score"] == 2 and found["interval"] == (2, 2)
    assert found["models"] == ("good", "bad") and found["unmatched"] == (0, 0)
    assert {name: one["wins"] for name, one in found["categories"].items()} == {"x": 3, "y": 3}
    assert (done.asked, again.asked, again.reused) == (12, 0, 12)
    assert again.outcome == done.outcome
    assert recompute(done.out) == recompute(done.out.parent) == done.outcome
    # What is the same in every request stands first: a server's prefix cache holds it.
    shared_text = min(p.index("Question") for p in prompts)
    assert len({p[:shared_text] for p in prompts}) == 1 and shared_text > 500


def test_a_judge_that_prefers_the_first_place_gives_ties(files: tuple[Path, Path]) -> None:
    with FaultyServer(reply=lambda request: "9 3\n") as server:
        done = judge(config(files, server.url))
    assert done.outcome.tally.ties == 6 and done.outcome.tally.winning_score == 1


def test_what_is_off_the_scale_or_unparsed_is_counted_never_guessed(
    files: tuple[Path, Path],
) -> None:
    def behaviour(request: Received) -> Answer | None:
        forward = prefers_good(request).startswith("8")
        number = int(re.findall(r"Question (\d)", request.prompt)[0])
        if number == 0:
            return completion("15 3\nBoth beyond." if forward else "3 15\n")
        if number == 1 and forward:
            return completion("The first is better.")
        if number == 2 and not forward:
            return cut("8 1")
        if number == 3:
            return completion("0 0\nNeither.")
        return None

    with FaultyServer(behaviour, reply=prefers_good) as server:
        done = judge(config(files, server.url))
        count = len(server.requests)
        judge(config(files, server.url))
        assert len(server.requests) == count
        server.behaviour = None
        rescued = judge(config(files, server.url, retry=("unparsed", "truncated")))
        assert len(server.requests) == count + 6
    assert (done.outcome.tally.wins, done.outcome.unparsed) == (2, 4)
    assert done.outcome.reasons == {
        "unparsed: a score outside the scale 1 to 10": 4,
        "unparsed: no two scores on the first line": 1,
        "truncated: cut at the token limit": 1,
    }
    assert rescued.outcome.tally.wins == 6 and rescued.outcome.unparsed == 0
    assert recompute(rescued.out) == rescued.outcome


@pytest.mark.parametrize("where", ["beside", "inside"])
def test_a_judges_reasoning_is_no_part_of_its_verdict(files: tuple[Path, Path], where: str) -> None:
    def behaviour(request: Received) -> Answer:
        scores, thoughts = prefers_good(request), "3 9\nOr not."
        if where == "beside":
            return completion(scores, reasoning=thoughts)
        return completion(f"<think>\n{thoughts}\n</think>\n\n{scores}")

    with FaultyServer(behaviour) as server:
        done = judge(config(files, server.url))
    assert done.outcome.tally.wins == 6
    assert "Or not." not in done.out.read_text("utf-8")
    assert done.cost is None and done.tokens[0] == 12 * 11


def test_the_verdict_file_counts_as_the_run_did(files: tuple[Path, Path]) -> None:
    """Zeros are off the scale that we ask for, and stay so when the file is counted again."""
    out = files[0].parent / "verdicts.json"
    with FaultyServer(reply=lambda request: "0 0\n") as server:
        done = judge(config(files, server.url, out=out))
    assert done.out == out and done.outcome.unparsed == 6
    assert recompute(out) == done.outcome
    assert "-" in list(outcome_lines(done.outcome))[1]


def test_a_request_that_the_server_refuses_is_a_pair_without_a_verdict(
    files: tuple[Path, Path],
) -> None:
    def behaviour(request: Received) -> Answer | None:
        if "Question 3" not in request.prompt:
            return None
        body = {"error": {"message": "the prompt is too long for the context length"}}
        return Answer(400, json.dumps(body).encode())

    with FaultyServer(behaviour, reply=prefers_good) as server:
        done = judge(config(files, server.url))
    assert (done.outcome.tally.wins, done.outcome.unparsed) == (5, 1)
    assert recompute(done.out) == done.outcome
    (reason,) = done.outcome.reasons
    assert reason.startswith("failed: longer than")


def test_killed_and_taken_up_no_verdict_is_asked_twice(files: tuple[Path, Path]) -> None:
    """kill -9 with seven of twelve answered; the rest is asked by the same command."""

    def behaviour(request: Received) -> Answer | None:
        return Answer(delay=60) if request.number >= 7 else None

    with FaultyServer(behaviour, reply=prefers_good) as server:
        out = files[0].parent / "out"
        words = ["judge", *map(str, files), "--judge", "j", "--base-url", server.url]
        words += ["--out", str(out), "--max-tokens", "64", "--concurrency", "1"]
        command = [sys.executable, "-c", "from curate.cli import main; main()", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            while len(server.requests) < 8:
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        server.behaviour = None
        before = {request.prompt for request in server.requests[:7]}
        done = judge(config(files, server.url))
        later = {request.prompt for request in server.requests[8:]}
    assert (done.asked, done.reused, done.outcome.tally.wins) == (5, 7, 6)
    assert not before & later


def test_recorded_replies_judge_too(files: tuple[Path, Path]) -> None:
    with FaultyServer(reply=prefers_good) as server:
        done = judge(config(files, server.url))
    rows = json.loads(done.out.read_text("utf-8"))["data"]
    lines = [
        {"id": row["id"], "candidate": kind, "reply": row[f"review{order}"]}
        for row in rows
        for kind, order in (("forward", ""), ("reverse", "_reverse"))
    ]
    replies = written(files[0].parent / "replies.jsonl", lines[:-1])
    place = {"out": files[0].parent / "recorded", "model": None}
    found = judge(config(files, None, replies=replies, **place))
    assert (found.outcome.tally.wins, found.outcome.unparsed) == (5, 1)
    assert found.outcome.reasons == {"failed: no recorded reply": 1}


def test_a_budget_stops_between_two_requests(files: tuple[Path, Path]) -> None:
    with FaultyServer(reply=lambda request: prefers_good(request) + " word" * 100) as server:
        asked = config(files, server.url, max_total_tokens=1900, concurrency=1)
        with pytest.raises(BudgetReached):
            judge(asked)
        first = len(server.requests)
        done = judge(replace(asked, judge=replace(asked.judge, max_total_tokens=None)))
    assert 0 < first < 12 and done.asked == 12 - first


# --- what is left over and bad input --------------------------------------------------------------


def test_rows_of_one_file_alone_are_counted(files: tuple[Path, Path]) -> None:
    a, b = files
    twice = [*answers("good")[:4], {"instruction": QUESTIONS[0], "output": "good says more"}]
    written(a.with_suffix(".jsonl"), twice)
    with FaultyServer(reply=prefers_good) as server:
        done = judge(config((a.with_suffix(".jsonl"), b), server.url))
    assert done.outcome.tally.pairs == 4 and done.left == (1, 2)
    assert done.as_dict()["unmatched"] == (1, 2)


def test_limit_counts_pairs(files: tuple[Path, Path]) -> None:
    with FaultyServer(reply=prefers_good) as server:
        assert judge(config(files, server.url, limit=2)).outcome.tally.pairs == 2
        assert judge(config(files, server.url)).asked == 8


def test_inputs_belong_to_the_instruction(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Translate.", "input": word, "output": f"good says {word}"}
        for word in ("ja", "nein")
    ]
    other = [{**row, "output": row["output"].replace("good", "bad")} for row in rows]
    pair = written(tmp_path / "a.jsonl", rows), written(tmp_path / "b.jsonl", other)
    with FaultyServer(reply=prefers_good) as server:
        done = judge(config(pair, server.url))
        assert sum("Translate.\nnein" in request.prompt for request in server.requests) == 2
    assert done.outcome.tally.wins == 2


def test_mt_bench_answers_are_matched_by_the_questions_ids(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Beside AlpacaEval's form, which has the instructions; the first turn is judged."""
    asked: list[dict[str, Any]] = [
        {"question_id": 81 + number, "category": "writing", "turns": [text, "And shorter?"]}
        for number, text in enumerate(QUESTIONS)
    ]
    questions = str(written(tmp_path / "question.jsonl", asked))
    rows = [
        {"question_id": row["question_id"], "model_id": "bad", "tstamp": 1.5,
         "choices": [{"index": 0, "turns": [f"bad says {row['turns'][0]}", "good says no"]}]}
        for row in [*asked[:4], {"question_id": 7, "turns": ["?"]}]
    ]  # fmt: skip
    pair = files[0], written(tmp_path / "bad.jsonl", rows)
    with FaultyServer(reply=prefers_good) as server:
        done = judge(config(pair, server.url, questions=questions))
        assert not any("good says no" in request.prompt for request in server.requests)
    assert done.outcome.tally.wins == 4 and done.left == (2, 1) and done.models == ("good", "bad")
    place = {"out": tmp_path / "more"}
    assert "name the set that they answer with --questions" in told(pair, **place)
    broken = written(tmp_path / "broken.jsonl", [{"question_id": 81, "choices": [{"turns": []}]}])
    assert "broken.jsonl:1: no text" in told((pair[0], broken), questions=questions, **place)
    stray = written(tmp_path / "stray.jsonl", rows[4:])
    assert "answers no question_id" in told((pair[0], stray), questions=questions, **place)


def told(files: tuple[Path, Path], **more: Any) -> str:
    before = {path for path in files[0].parent.rglob("*")}
    with pytest.raises(CurateError) as error:
        judge(config(files, "http://127.0.0.1:9/v1", **more))
    assert {path for path in files[0].parent.rglob("*")} == before
    return str(error.value)


def test_bad_input_is_one_sentence_and_leaves_nothing(files: tuple[Path, Path]) -> None:
    a, b = files
    other = written(a.parent / "other.jsonl", answers("bad", ["Another?"]))
    assert "share no instruction" in told((a, other))
    lacking = written(a.parent / "lacking.jsonl", [{"instruction": "a", "answer": "b"}])
    assert "no column 'output'; its columns are instruction, answer" in told((a, lacking))
    empty = written(a.parent / "empty.jsonl", [])
    assert "is empty" in told((empty, b)) and "is empty" in told((a, empty))
    assert "no such file" in told((a, a.parent / "none.json"))
    assert "cannot reach" in told((a, b))
    assert "was not made by this command" in told((a, b), out=b)
    assert "--price-in" in told((a, b), max_cost=1.0)
    (a.parent / "full").mkdir()
    written(a.parent / "full" / "mine.txt", [])
    assert "no run of curate" in told((a, b), out=a.parent / "full")
    with pytest.raises(UsageError, match="--judge is needed"):
        judge(config(files, "http://localhost:9", model=None))


def test_another_comparison_is_refused_by_its_field(files: tuple[Path, Path]) -> None:
    with FaultyServer(reply=prefers_good) as server:
        judge(config(files, server.url))
        for change, field in (({"model": "k"}, "judge"), ({"temperature": 0.5}, "temperature")):
            with pytest.raises(CurateError, match=f"made with {field} ="):
                judge(config(files, server.url, **change))
        assert isinstance(judge(config(files[::-1], server.url, out=None)), Judged)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
