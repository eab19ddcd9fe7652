"""`curate improve` by rewards: a program's, r-IFD, the model's own, a judge's."""

import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline import api
from curate.pipeline.errors import CurateError
from curate.pipeline.pair_records import Prompt, Sample
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.loop import history
from curate.pipeline.stages.status.stage import status
from curate.pipeline.workflows.improving.rewards import Program, rate_by_program

from ..llm.faulty_server import FaultyServer, Received
from ..stages.synthesis.teachers import seeds
from ..training.data import write_jsonl
from .loops import FAST, HELD_OUT, REWARDED, ROWS, Row, accounted_for, improve, stages

pytestmark = pytest.mark.usefixtures("one_thread")
CHECK = """
import json, sys
asked = json.loads(sys.stdin.readline())
assert set(asked) == {"id", "prompt", "answer"}
print(len(asked["answer"]) + len(asked["answer"].split()) / 100)
"""


def program(folder: Path, text: str) -> str:
    path = folder / "check.py"
    path.write_text(text, "utf-8")
    return f"{sys.executable} {path}"


def test_self_rewarding_with_a_program_as_reward(
    loop_data: Path, talker: Path, tmp_path: Path
) -> None:
    command, run = program(tmp_path, CHECK), tmp_path / "run"
    improve(loop_data, talker, run, reward="command", reward_command=command, **REWARDED)
    accounted_for(run, 1)
    counts = stages(run, 0) | RunDir(run).manifest["stages"]["data"]
    assert counts["tuning"] == counts["prompts"] == 3 and counts["train"]["fine_tuned"]
    rated = pq.read_table(run / "iterations/01/ratings/ratings.parquet").to_pylist()
    for row in rated:
        if row["rating"] is None:
            assert row["rating_reason"]
        else:
            assert int(row["rating"]) == len(row["output"])
    ratings = {(row["id"], row["sample"]): row["rating"] for row in rated}
    for row in pq.read_table(run / "iterations/01/training.parquet").to_pylist():
        of = [ratings[row["id"], row[f"{side}_from"]["sample"]] for side in ("chosen", "rejected")]
        assert None not in of and of[0] > of[1]
    (noted,) = run.glob("iterations/01/ratings/program.jsonl")
    lines = filter(None, noted.read_text("utf-8").splitlines())
    assert len(list(lines)) == len(rated)
    other = write_jsonl(tmp_path / "other.jsonl", ROWS[:4])
    write_jsonl(tmp_path / "held-out.jsonl", HELD_OUT)
    with pytest.raises(CurateError, match="holds other records"):
        improve(other, talker, run, reward="command", reward_command=command, **REWARDED)


def test_self_rewarding_by_r_ifd(loop_data: Path, talker: Path, tmp_path: Path) -> None:
    run, prompts = tmp_path / "run", write_jsonl(tmp_path / "prompts.jsonl", ROWS[:4])
    improve(loop_data, talker, run, reward="rifd", prompts=str(prompts), no_sft=True, **REWARDED)
    accounted_for(run, 1)
    rated = pq.read_table(run / "iterations/01/ratings/ratings.parquet").to_pylist()
    known = [row for row in rated if row["rating"] is not None]
    scored = api.score(
        [{key: row[key] for key in ("instruction", "input", "output")} for row in known[:1]],
        student=str(talker), template="wizardlm", device="cpu", progress=False,
    )[0]  # fmt: skip
    told = scored["nll_instruction"] - scored["nll_instruction_given_response"]
    assert known[0]["rating"] == pytest.approx(told, abs=1e-5)


def test_a_model_that_rates_itself_and_is_examined(
    talker: Path, loop_data: Path, tmp_path: Path
) -> None:
    """Prompts are a run's of `synthesize`; one judge task would be fine-tuned on."""
    run, reply = tmp_path / "run", "9. Say 3 and 4.\n10. Say no more than 5."
    replies = write_jsonl(
        tmp_path / "replies.jsonl",
        [{"id": "r1-q0", "candidate": "instructions", "reply": reply}],
    )
    made: Any = api.synthesize(
        str(write_jsonl(tmp_path / "seeds.jsonl", seeds())), out=str(tmp_path / "new"),
        method="self-instruct", number=2, engine="recorded", replies=str(replies), progress=False,
    )  # fmt: skip
    assert made.instructions == 2
    ranked = [
        {"id": "e", "instruction": "Say 1.", "output": text, "rank": n}
        for n, text in enumerate("12")
    ]
    task = {"id": "t", "instruction": "Rate it.", "output": "Score: 3"}
    eft = str(write_jsonl(tmp_path / "eft.jsonl", [task]))
    options: Row = {
        "prompts": str(tmp_path / "new"), "exam": str(write_jsonl(tmp_path / "exam.jsonl", ranked)),
        "times": 2,
        "judge_max_tokens": 12, **REWARDED,
    }  # fmt: skip
    said = api.improve(
        str(loop_data),
        model=str(talker),
        out=str(run),
        dry_run=True,
        eft=eft,
        **{**FAST, **options},
    )
    assert "7 records to fine-tune on" in said and "6 answers to 2 prompts, 12 ratings" in said
    assert not run.exists()
    found = improve(loop_data, talker, run, no_sft=True, **options)
    accounted_for(run, 1)
    rated = pq.read_table(run / "iterations/01/ratings/ratings.parquet").to_pylist()
    assert sum(row["rating"] is not None for row in rated) == stages(run, 1)["rate"]["rated"] > 0
    assert {row["instruction"] for row in rated} == {"Say 3 and 4.", "Say no more than 5."}
    for one in found.measured:
        assert one.exam is not None and (one.exam.unrated or one.exam.pairs == 1)
    assert history(RunDir(run)) == found.measured


def test_a_judge_that_always_says_the_same_ends_the_loop(
    loop_data: Path, talker: Path, tmp_path: Path
) -> None:
    def same(_: Received) -> str:
        return "It answers.\nScore: 4"

    with FaultyServer(reply=same) as server:
        found = improve(
            loop_data, talker, tmp_path / "run", reward="judge", judge="J", base_url=server.url,
            times=2, no_sft=True, **{**REWARDED, "stop": "worse"},
        )  # fmt: skip
    assert found.stopped is not None and "ties" in found.stopped and found.best == 0
    assert RunDir(tmp_path / "run").manifest["stages"]["improve"]["stopped"] == found.stopped
    assert status(str(tmp_path / "run")).stages[0].state == "finished"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import sys; sys.exit(3)", "exit code 3"),
        ("print('good')", "no number but 'good'"),
        ("pass", "no number"),
        ("print('nan')", "nan"),
        ("import time; time.sleep(60)", "more than 0.3 s"),
    ],
    ids=["fails", "text", "nothing", "nan", "hangs"],
)
def test_a_program_that_gives_no_number(text: str, says: str, tmp_path: Path) -> None:
    sample = Sample(id="1", prompt=Prompt(instruction="Say 1."), output="1", sample=0)
    run = Program(words=program(tmp_path, text).split(), timeout=0.3 if "sleep" in text else 30)
    rated = run.rated(sample)
    assert rated.rating is None and says in (rated.rating_reason or "")
    with pytest.raises(CurateError, match="no answer has a reward"):
        rate_by_program(run, [sample], tmp_path / "noted.jsonl")


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    sample = Sample(id="1", prompt=Prompt(instruction="Say 1."), output="1", sample=0)
    with pytest.raises(CurateError, match="cannot be started"):
        Program(words=["/nowhere/check"], timeout=1).rated(sample)
