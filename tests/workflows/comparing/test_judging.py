"""`curate compare --judge`: the trained models answer, a judge over HTTP compares, paid once."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curate.pipeline.config import CompareConfig, ModelConfig, PairwiseConfig, SetName
from curate.pipeline.config.shared.training import FinetuneConfig
from curate.pipeline.errors import BudgetReached, CurateError, UsageError
from curate.pipeline.llm.budget import prompt_ceiling
from curate.pipeline.stages.judging import recompute
from curate.pipeline.stages.selection.stage import SelectResult
from curate.pipeline.workflows.compare import compare
from curate.pipeline.workflows.compare import in_words as compared_in_words
from curate.pipeline.workflows.comparing.judging import (
    Judgement,
    checked_questions,
    judge_models,
    judgement_lines,
)

from ...llm.faulty_server import Answer, FaultyServer, Received, completion, error
from ...scoring.tiny import llama, save_student
from ...training.data import records, scoring_with, select_from, write_jsonl

SETS: tuple[SetName, ...] = ("selected", "random")
ANSWERS = re.compile(r"<answer of assistant \d>\n(.*?)\n</answer of", re.S)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> CompareConfig:
    """Two sets with one seed, trained and compared without a judge."""
    folder = tmp_path_factory.mktemp("judged")
    data = write_jsonl(folder / "candidates.jsonl", records(18))
    made: SelectResult = select_from(
        data, folder / "run", scoring_with(tiny_student), max_ifd=9.0, max_rifd=9.0, top="8"
    )
    finetuning = FinetuneConfig(
        model=str(tiny_student), out=folder / "out", preset="demo", max_steps=4, batch_size=4,
        max_length=64, held_out=4, learning_rate=0.03,
    )  # fmt: skip
    config = CompareConfig(run=str(made.run), finetuning=finetuning, sets=SETS, seeds=(0,))
    found = compare(config)
    assert "judged" not in found.as_dict() and len(list(compared_in_words(found))) == 7
    return config


def judging(url: str, questions: str | None = None, **more: Any) -> PairwiseConfig:
    asked = {"model": "j", "base_url": url, "max_tokens": 64, "concurrency": 4, **more}
    judge = ModelConfig(role="judge", **asked)
    return PairwiseConfig(judge=judge, questions=questions, max_tokens=12)


def judged_by(url: str, config: CompareConfig, **more: Any) -> CompareConfig:
    return replace(config, pairwise=judging(url, **more))


def prefers_longer(request: Received) -> str:
    first, second = map(len, ANSWERS.findall(request.prompt))
    return f"{5 + (first > second)} {5 + (second > first)}\nBy length."


def by_length(one: Path, other: Path) -> tuple[int, int, int]:
    """What such a judge must come to, from the files of answers alone."""
    texts = [
        {row["instruction"] + row.get("input", ""): row["output"] for row in map(json.loads, lines)}
        for lines in (path.read_text("utf-8").split("\n")[:-1] for path in (one, other))
    ]
    assert texts[0].keys() == texts[1].keys()
    more = [len(text) - len(texts[1][asked]) for asked, text in texts[0].items()]
    return sum(n > 0 for n in more), more.count(0), sum(n < 0 for n in more)


def test_the_held_out_instructions_are_answered_and_judged(trained: CompareConfig) -> None:
    with FaultyServer(reply=prefers_longer) as server:
        config = judged_by(server.url, trained)
        found = compare(config)
        asked = len(server.requests)
        again = compare(config)
        assert len(server.requests) == asked
    judged = found.judged
    assert judged and again.judged and asked > 0
    assert list(judged.sets) == ["selected"] and judged.questions == 4
    (folder,) = found.out.glob("judged-*")
    for name, row in judged.sets.items():
        counts = by_length(folder / f"{name}-seed0.jsonl", folder / "random-seed0.jsonl")
        assert (row.wins, row.ties, row.losses) == counts and sum(counts) == 4
        assert row.winning_score == (counts[0] - counts[2]) / 4 + 1
        outcome = recompute(Path(row.verdicts)).as_dict()
        assert outcome["interval"] == row.interval and outcome["wins"] == row.wins
        assert replace(row, asked=0, reused=8) == again.judged.sets[name]
    assert asked == sum(row.asked for row in judged.sets.values()) <= 8
    known = json.loads((found.out / "compare.json").read_text("utf-8"))
    assert known["judged"]["sets"]["selected"]["wins"] == judged.sets["selected"].wins
    assert known["judged"] | {"sets": 0} == {
        "judge": "j", "against": "random", "seed": 0, "questions": 4, "sets": 0,
        "source": "originals of the run, held out",
    }  # fmt: skip
    lines = list(compared_in_words(found))
    (line,) = [line for line in lines[lines.index("") + 5 :] if line.startswith("selected")]
    assert [int(x) for x in line.split()[1:4]] == list(
        by_length(folder / "selected-seed0.jsonl", folder / "random-seed0.jsonl")
    )
    assert not (set(again.as_dict()) ^ set(found.as_dict()))


# --- without training -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> dict[str, Path]:
    """Two models that answer, and one of them again by another name."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_student, folder / "all-seed0")
    other = save_student(folder / "other", llama(num_hidden_layers=1))
    return {"selected": tiny_student, "random": other, "all": folder / "all-seed0"}


def judged_in(out: Path, models: dict[str, Path], config: PairwiseConfig) -> Judgement:
    questions = checked_questions(config, [], "nothing held out")
    place: dict[str, Any] = {"seed": 0, "out": out, "device": "cpu"}
    return judge_models(config, models, questions, against="random", **place)


QUESTIONS: list[dict[str, Any]] = [
    {"turns": ["Which bird is it?", "And why?"], "question_id": 81},
    {"prompt": "Say it."},
    {"prompt": "Say it."},
    {"turns": ["word " * 300], "question_id": 83},
]


def test_questions_of_ones_own_and_verdicts_that_are_missing(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """Of several turns the first is asked; equal questions are one; the third is too long."""
    data = str(write_jsonl(tmp_path / "own.jsonl", QUESTIONS))
    two = {name: models[name] for name in models if name != "all"}

    def behaviour(request: Received) -> Answer | None:
        return completion("Both are fine.") if "Say it." in request.prompt else None

    with FaultyServer(behaviour, reply=lambda _: "8 8\n") as server:
        config = judging(server.url, questions=data)
        found = judged_in(tmp_path, two, config)
        prompts = [request.prompt for request in server.requests]
        server.behaviour = None
        again = replace(config.judge, retry=("unparsed",))
        later = judged_in(tmp_path, two, replace(config, judge=again)).sets["selected"]
    row = found.sets["selected"]
    assert found.questions == 3 and len(prompts) == 4
    assert not any("And why?" in prompt for prompt in prompts)
    assert (row.ties, row.unparsed, row.unanswered) == (1, 1, 1)
    assert row.reasons == {"unparsed: no two scores on the first line": 2}
    assert (later.ties, later.unparsed, later.asked, later.reused) == (2, 0, 2, 2)
    told = list(judgement_lines(found))
    assert told[-2] == "selected: 1 questions without both answers"
    assert told[-1].startswith("selected: 1 pairs without both verdicts (2 unparsed: no two")


def test_after_the_judge_failed_the_same_command_goes_on(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """What was paid for counts for an equal pair of another set, too."""
    data = write_jsonl(tmp_path / "own.jsonl", [{"prompt": f"Number {n}?"} for n in range(3)])

    def behaviour(request: Received) -> Answer | None:
        return error(401, "no such key") if request.number >= 3 else None

    with FaultyServer(behaviour, reply=lambda _: "7 7\n") as server:
        config = judging(server.url, questions=str(data), concurrency=1)
        with pytest.raises(CurateError, match="401"):
            judged_in(tmp_path, models, config)
        paid, before = {request.prompt for request in server.requests[:3]}, len(server.requests)
        server.behaviour = None
        found = judged_in(tmp_path, models, config)
        later = {request.prompt for request in server.requests[before:]}
    assert len(paid) == len(later) == 3 and not paid & later
    assert [(row.ties, row.reused) for row in found.sets.values()] == [(3, 3), (3, 6)]


def test_a_budget_is_for_all_comparisons_together(models: dict[str, Path], tmp_path: Path) -> None:
    """Each of two takes half of what both do; a server that counts nothing is charged the worst."""
    data = str(write_jsonl(tmp_path / "own.jsonl", [{"prompt": f"Number {n}?"} for n in range(3)]))
    three = models | {"all": save_student(tmp_path / "third", llama(hidden_size=64))}
    with FaultyServer(lambda _: completion("7 7\n", usage=False)) as server:
        config = judging(server.url, questions=data, concurrency=1)
        judged_in(tmp_path, three, config)
        prompts = [request.body["messages"] for request in server.requests]
        assert len(prompts) == 12
        total = sum(map(prompt_ceiling, prompts)) + 12 * config.judge.max_tokens
        capped = replace(config.judge, journal=tmp_path / "capped", max_total_tokens=total)
        limited = replace(capped, max_total_tokens=total * 3 // 4)
        with pytest.raises(BudgetReached):
            judged_in(tmp_path, three, replace(config, judge=limited))
        assert 18 <= len(server.requests) <= 21
        found = judged_in(tmp_path, three, replace(config, judge=capped))
        assert len(server.requests) == 24
    assert [row.ties for row in found.sets.values()] == [3, 3]


def test_what_cannot_be_judged_is_told_before_training(
    trained: CompareConfig, tmp_path: Path
) -> None:
    url = "http://127.0.0.1:9/v1"
    fresh = replace(trained, finetuning=replace(trained.finetuning, out=tmp_path / "fresh"))

    def told(**more: Any) -> str:
        with pytest.raises(CurateError) as problem:
            compare(judged_by(url, fresh, **more))
        assert not (tmp_path / "fresh").exists()
        return str(problem.value)

    assert "no such file" in told(questions="none.jsonl")
    assert "no column" in told(questions=str(write_jsonl(tmp_path / "x.jsonl", [{"a": "b"}])))
    assert "--judge is needed" in told(model=None)
    assert "give --price-out" in told(max_cost=1.0, price_in=1.0)
    assert "needs --base-url" in told(base_url=None, engine="openai")
    with pytest.raises(UsageError, match="--sets must have both"):
        judged_by(url, replace(trained, sets=("selected", "all")))
    with pytest.raises(UsageError, match="--sets selected,random"):
        judged_by(url, replace(trained, sets=(*SETS, "all")), replies=tmp_path / "x.jsonl")
