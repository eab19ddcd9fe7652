"""`curate compare --pairs`: what is held out, what is measured, curves, options."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from curate.pipeline.config import CompareConfig, FinetuneConfig, PairTrainingConfig
from curate.pipeline.config.comparison import PAIR_SETS, SETS
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.records import user_turn
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.stages.selection.stage import SelectResult
from curate.pipeline.templates import Template
from curate.pipeline.training.chat_template import answer_end
from curate.pipeline.workflows.compare import CompareResult, compare, in_words
from curate.pipeline.workflows.comparing.training_sets import (
    PairPool,
    longer_chosen,
    pair_pool,
    split_off,
)

from ...training.byte_student import template_of, tokens_of
from ...training.data import records, scoring_with, select_from, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")
Row = dict[str, Any]
TRAINED = ("sft-chosen", "dpo", "cpo", "dpo-length")


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> SelectResult:
    folder = tmp_path_factory.mktemp("compared")
    data = write_jsonl(folder / "candidates.jsonl", records(18))
    return select_from(data, folder / "run", scoring_with(tiny_student), max_ifd=9.0, max_rifd=9.0)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each record the response over the original, and of each both over the instruction."""
    found = {(row["id"], row["candidate"]): row for row in records(18)}
    rows = [
        {
            "prompt": user_turn(found[id, worse]["instruction"], found[id, worse]["input"]),
            "chosen": found[id, better]["output"],
            "rejected": found[id, worse]["output"],
        }
        for id in sorted({id for id, _ in found})
        for better, worse in (("response", "original"), ("both", "instruction"))
        if "output" in found[id, better] and "output" in found[id, worse]
    ]
    return write_jsonl(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", rows)


def config(
    made: SelectResult, pairs: Path, student: Path, out: Path, sets: Any = TRAINED
) -> CompareConfig:
    finetuning = FinetuneConfig(
        model=str(student), out=out, preset="demo", max_steps=2, batch_size=4,
        per_device_batch_size=4, max_length=64, held_out=4,
    )  # fmt: skip
    own = PairTrainingConfig(data=str(pairs), learning_rate=1e-3)
    return CompareConfig(
        run=str(made.run), finetuning=finetuning, pairs=own, sets=sets, seeds=(0, 5)
    )


@pytest.fixture(scope="module")
def compared(
    selection: SelectResult,
    pairs: Path,
    tiny_student: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> CompareResult:
    out = tmp_path_factory.mktemp("compare") / "out"
    return compare(config(selection, pairs, tiny_student, out))


@pytest.fixture(scope="module")
def pool(selection: SelectResult, pairs: Path) -> PairPool:
    run = RunDir.open(str(selection.run))
    examples = split_off(run, 4)
    held = {example.id for example in examples}
    return pair_pool(run, str(pairs), 4, examples=examples, held=held)


def test_no_training_sees_what_a_held_out_pair_or_record_asks(
    pool: PairPool, selection: SelectResult, pairs: Path
) -> None:
    asked = {pair.prompt.turn for pair in pool.held_out}
    assert len(asked) >= 4 and not asked & {pair.prompt.turn for pair in pool.training}
    assert len(pool.held_out) + len(pool.training) == len(pairs.read_text("utf-8").splitlines())
    versions = [row for row in records(18) if row["status"] == "ok"]
    turns = {(row["id"], user_turn(row["instruction"], row["input"])) for row in versions}
    assert pool.held == {id for id, turn in turns if turn in asked}
    examples = {one.id for one in split_off(RunDir.open(str(selection.run)), 4)}
    assert examples <= pool.held
    assert not {turn for id, turn in turns if id in examples} & {
        pair.prompt.turn for pair in pool.training
    }


def test_of_the_same_pairs_the_longer_answer_is_chosen(pool: PairPool) -> None:
    found = list(longer_chosen(pool.training))
    for pair, by_length in zip(pool.training, found, strict=True):
        assert len(by_length.chosen) >= len(by_length.rejected)
        assert {pair.chosen, pair.rejected} == {by_length.chosen, by_length.rejected}
        assert pair.prompt == by_length.prompt
    assert sum(a.chosen != b.chosen for a, b in zip(pool.training, found, strict=True)) > 3


def test_all_are_trained_alike(compared: CompareResult, pool: PairPool) -> None:
    found: dict[str, Mapping[str, Any]] = {
        folder.name: json.loads((folder / "training.json").read_text("utf-8"))
        for folder in compared.out.glob("*-seed*")
    }
    assert set(found) == {f"{name}-seed{seed}" for name in TRAINED for seed in (0, 5)}
    results = [manifest["result"] for manifest in found.values()]
    assert {result["steps"] for result in results} == {2}
    assert len({(r["held_out_before"], r["held_out_tokens"]) for r in results}) == 1
    assert {row.rows for row in compared.sets} == {len(pool.training)}
    losses = {name: m["preference"]["loss"] for name, m in found.items() if "preference" in m}
    assert losses["cpo-seed0"] == "cpo" and losses["dpo-length-seed5"] == "dpo"
    rates = {name: manifest["settings"]["learning_rate"] for name, manifest in found.items()}
    assert (rates["dpo-seed0"], rates["sft-chosen-seed0"]) == (1e-3, 5e-4)
    assert found["dpo-seed0"]["data"] != found["dpo-length-seed0"]["data"]


def log_probabilities(pool: PairPool, student: Path, model: Path) -> Any:
    """Of chosen and rejected answers, by plain forward passes."""
    template: Template = template_of("wizardlm", student)
    tokens: Tokenization = tokens_of(student)
    end = answer_end(template, tokens)
    loaded: Any = AutoModelForCausalLM.from_pretrained(model)
    found = []
    for pair in pool.held_out:
        prompt = tokens.prefix_ids(template.prompt(pair.prompt.turn, ""))
        for answer in (pair.chosen, pair.rejected):
            target = [*tokens.target_ids(answer), *end]
            with torch.no_grad():
                logits = loaded(torch.tensor([prompt + target])).logits[0].double()
            scores = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            found.append(float(scores.gather(1, torch.tensor(target)[:, None]).sum()))
    return np.array(found).reshape(-1, 2)


def test_the_measures_are_those_of_the_published_models(
    compared: CompareResult, pool: PairPool, tiny_student: Path
) -> None:
    assert compared.pairs is not None
    assert compared.pairs.held_out_rows == len(pool.held_out)
    before = log_probabilities(pool, tiny_student, tiny_student)
    assert compared.pairs.untrained["chosen_log_probability"] == pytest.approx(before[:, 0].mean())
    rewards, margins, rankings = [], [], []
    for seed in (0, 5):
        now = log_probabilities(pool, tiny_student, compared.out / f"dpo-seed{seed}")
        gains = (now - before)[:, 0] - (now - before)[:, 1]
        rewards.append((gains > 0).mean())
        margins.append(gains.mean())
        rankings.append((now[:, 0] > now[:, 1]).mean())
    measured = compared.pairs.sets["dpo"]
    assert measured.margin.mean == pytest.approx(np.mean(margins), rel=1e-3)
    assert measured.reward_accuracy.mean == pytest.approx(np.mean(rewards))
    assert measured.ranking_accuracy.mean == pytest.approx(np.mean(rankings))
    by_length = compared.pairs.sets["dpo-length"]
    assert measured.difference is not None and by_length.difference is None
    assert measured.difference.mean == pytest.approx(
        measured.reward_accuracy.mean - by_length.reward_accuracy.mean
    )


def test_curves_and_table_are_in_the_files_and_the_words(compared: CompareResult) -> None:
    found = json.loads((compared.out / "compare.json").read_text("utf-8"))["pairs"]
    assert set(found["curves"]) == {"dpo", "cpo", "dpo-length"}
    columns = []
    for seed in (0, 5):
        with (compared.out / f"dpo-seed{seed}/loss.csv").open(encoding="utf-8") as file:
            columns.append([float(row["margin"]) for row in csv.DictReader(file)])
    assert [row["margin"] for row in found["curves"]["dpo"]] == pytest.approx(
        np.mean(columns, axis=0)
    )
    assert found["sets"]["dpo"]["margin"].keys() == {"mean", "low", "high"}
    assert (compared.out / "preferences.png").stat().st_size > 10_000
    lines = list(in_words(compared))
    accuracy = f"{found['sets']['dpo']['reward_accuracy']['mean']:.3f}"
    assert any(line.startswith("dpo ") and accuracy in line for line in lines)
    assert any(line.startswith("dpo-length: margin") for line in lines)


def test_what_is_finished_is_not_done_again(
    compared: CompareResult, selection: SelectResult, pairs: Path, tiny_student: Path
) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in compared.out.rglob("*-seed*/**/*")}

    before = times()
    again = compare(config(selection, pairs, tiny_student, compared.out))
    assert times() == before
    assert again.pairs == compared.pairs


def test_options(selection: SelectResult, pairs: Path, tmp_path: Path) -> None:
    all_of_both = config(selection, pairs, tmp_path, tmp_path / "out", sets=SETS)
    assert all_of_both.sets == (*SETS, *PAIR_SETS)
    finetuning = FinetuneConfig(model="m", out=tmp_path)
    with pytest.raises(UsageError, match=r"--sets dpo needs .*--pairs"):
        CompareConfig(run="run", finetuning=finetuning, sets=("random", "dpo"))


def test_pairs_that_are_all_held_out_are_refused(
    selection: SelectResult, tiny_student: Path, tmp_path: Path
) -> None:
    few = [{"prompt": "Say it.", "chosen": "yes", "rejected": "no"}]
    given = write_jsonl(tmp_path / "few.jsonl", few)
    with pytest.raises(CurateError, match="none is left to train on"):
        compare(config(selection, given, tiny_student, tmp_path / "out"))
