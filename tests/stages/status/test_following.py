"""What is proposed next, by what a folder holds."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from curate.cli import app
from curate.pipeline.stages.status.following import (
    after_answers,
    after_candidates,
    after_instructions,
    after_judging,
    after_loop,
    after_pairs,
    after_problems,
    after_training,
    retry_options,
)
from curate.pipeline.stages.status.stage_status import StageStatus


def stage(name: str, state: Any = "finished", **about: Any) -> StageStatus:
    return StageStatus(stage=name, state=state, done=1, **about)


MADE = stage("reflect", command="reflect again")
CHOSEN = stage("select/s-1", command="select again", student="S", selected=3)
STRICT = stage("select/s-1~strict", command="strict again", student="S", selected=2)
TRAINED = stage("finetune/model", unit="steps", command="train again")


def proposed(*stages: StageStatus, reported: bool = True, **about: Any) -> list[str]:
    training, compared = about.get("training", {}), about.get("compared", False)
    return list(after_candidates("r", stages, training, reported=reported, compared=compared))


@pytest.mark.parametrize(
    ("stages", "following"),
    [
        ([stage("reflect", "unfinished", command="go on"), CHOSEN], ["go on"]),
        ([stage("reflect", damaged_shards=1, command="mend")], ["mend"]),
        ([MADE], ["curate select r --student STUDENT"]),
        (
            [stage("reflect", retry="try again")],
            ["try again", "curate select r --student STUDENT"],
        ),
        ([MADE, stage("select/s", "unfinished", command="decide")], ["decide"]),
        ([MADE, stage("select/s", stale=True, command="decide anew")], ["decide anew"]),
        ([MADE, CHOSEN], ["curate finetune r --model S --out r/model"]),
        ([MADE, stage("select/s", selected=0, student="S")], []),
        (
            [MADE, CHOSEN, STRICT],
            ["curate finetune r --model S --selection 's-1~strict' --out r/model"],
        ),
        ([MADE, CHOSEN, stage("finetune/m", "unfinished", unit="steps", command="x")], ["x"]),
        ([MADE, CHOSEN, TRAINED], ["curate compare r --model S --out r-compared"]),
        (
            [MADE, CHOSEN, STRICT, TRAINED],
            ["curate compare r --model S --selection 's-1,s-1~strict' --out r-compared"],
        ),
    ],
    ids=lambda value: str(len(value)),
)
def test_of_a_run_of_candidates(stages: list[StageStatus], following: list[str]) -> None:
    assert proposed(*stages) == following


def test_a_report_is_proposed_while_it_does_not_show_the_selections() -> None:
    assert proposed(MADE, CHOSEN, reported=False)[0] == "curate report r"


def test_a_comparison_is_proposed_once_and_as_was_trained() -> None:
    training = {"data": "r", "model": "M", "preset": "demo", "selection": "s-1"}
    (compare,) = proposed(MADE, CHOSEN, TRAINED, training=training)
    assert compare == "curate compare r --model M --out r-compared --preset demo"
    assert proposed(MADE, CHOSEN, TRAINED, compared=True) == []


def test_of_problems_of_pairs_and_of_a_trained_model() -> None:
    solved = stage("solve", command="go on")
    assert list(after_problems("r", [stage("solve", "unfinished", command="go on")])) == ["go on"]
    assert list(after_problems("r", [solved])) == ["curate check r"]
    (train,) = after_problems("r", [solved, stage("check/number", selected=2)])
    assert train == "curate finetune r/solved --model STUDENT --out r-model"
    assert list(after_problems("r", [solved, stage("check/number", selected=0)])) == []
    assert next(after_pairs("p", 3)).startswith("curate align p --model MODEL ")
    assert list(after_pairs("p", 0)) == []
    assert list(after_training("m", stage("align/m", "unfinished", command="on"))) == ["on"]
    assert next(after_training("m", TRAINED)).startswith("curate generate QUESTIONS --model m ")


def test_of_a_file_of_answers_or_ratings_and_of_what_was_generated() -> None:
    file = Path("d/a.json")
    proposed = [
        after_answers(file, sampled=False),
        after_answers(Path("s.parquet"), sampled=True),
        after_judging(file) or "",
        *after_instructions("new", 2, answered=True),
        *after_instructions("new", 2, answered=False),
        *after_instructions("new", 0, answered=True),
        *after_loop("loop", "loop/iterations/01/model"),
    ]
    assert [line.split()[1:3] for line in proposed] == [
        ["judge", "d/a.json"],
        ["judge", "s.parquet"],
        ["pairs", "d/a.json"],
        ["reflect", "new/instructions"],
        ["generate", "new/instructions"],
        ["generate", "QUESTIONS"],
    ]
    assert "--out s-rated.parquet" in proposed[1] and "--rate" in proposed[1]
    assert after_judging(file, rivals=False) is None and list(after_loop("loop", None)) == []
    commands: Any = typer.main.get_command(app)
    for _, name, *words in map(shlex.split, proposed):
        commands.commands[name].make_context("curate", words)


@pytest.mark.parametrize(
    ("counts", "options", "sampled", "again"),
    [
        ({"failed": 1, "unparsed": 2}, {}, False, {"retry": ["failed"]}),
        ({"unparsed": 2, "refused": 1}, {}, False, None),
        ({"unparsed": 2, "refused": 1}, {}, True, {"retry": ["unparsed", "refused"]}),
        ({"truncated": 1}, {"max_tokens": 100}, False, {"retry": ["truncated"], "max_tokens": 200}),
        ({"failed": 1}, {"replies": "r.jsonl"}, True, None),
        ({"ok": 5}, {}, True, None),
    ],
)
def test_a_retry_is_proposed_where_it_may_change_something(
    counts: dict[str, int], options: dict[str, Any], sampled: bool, again: Any
) -> None:
    assert retry_options(counts, options, sampled=sampled) == again
