"""Selection: the same rows lazily and with every score, nothing scored twice, bad input."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from curate.pipeline.config import InputConfig, SelectConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.records import Candidate
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.published.selected import finished_selection
from curate.pipeline.stages.selection.stage import SelectResult, select

from ...scoring.tiny import byte_level, llama, save_student
from ...training.data import (
    Row,
    chosen,
    record,
    records,
    rejected,
    score_shards,
    scores_of,
    scoring_with,
    select_from,
    write_jsonl,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "candidates.jsonl", records(18))


# --- what is chosen ------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"only_improved": True}, {"top": "50%", "max_ifd": 3.0}])
def test_lazily_the_same_rows_are_chosen_as_with_every_score(
    settings: Any, data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    lazily = select_from(data, tmp_path / "a", scoring_with(tiny_student), **settings)
    scoring = scoring_with(tiny_student, score_all=True)
    everything = select_from(data, tmp_path / "b", scoring, **settings)
    assert chosen(lazily) == chosen(everything)
    assert rejected(lazily) == rejected(everything)
    assert lazily.counts["selected"] > 0
    assert lazily.counts["rejected"] > 0
    assert lazily.counts["sequences"] < everything.counts["sequences"]
    same = ("records", "candidates", "selected", "rejected", "by_candidate", "by_rule")
    assert all(lazily.counts[name] == everything.counts[name] for name in same)


def test_counts_add_up(data: Path, tmp_path: Path, tiny_student: Path) -> None:
    result = select_from(data, tmp_path / "run", scoring_with(tiny_student))
    counts = result.counts
    assert counts["records"] == 18
    assert sum(counts["candidates"].values()) == 4 * 18
    assert counts["selected"] + counts["rejected"] == 18
    assert counts["selected"] == len(chosen(result)) == sum(counts["by_candidate"].values())
    assert counts["rejected"] == len(rejected(result))
    assert sum(counts["by_rule"].values()) == 18
    assert counts["by_rule"]["kept"] == counts["selected"]
    scores = scores_of(result).values()
    statuses = [row[f"{side}_status"] for row in scores for side in ("ifd", "rifd")]
    assert sum(counts["scores"].values()) == sum(status is not None for status in statuses)
    ids = [row["id"] for row in chosen(result) + rejected(result)]
    assert sorted(ids) == sorted({row["id"] for row in records(18)})
    assert all(row["reason"] for row in rejected(result))
    assert RunDir.open(result.run).stage(f"select/{result.student}")["counts"] == counts  # type: ignore[index]


def test_top_takes_the_highest_ifd_of_the_rows_that_pass(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    scoring = scoring_with(tiny_student)
    whole = select_from(data, tmp_path / "run", scoring, max_ifd=9.0, max_rifd=9.0)
    passed = chosen(whole)
    three = select_from(whole.run, None, scoring, max_ifd=9.0, max_rifd=9.0, top="3")
    best = sorted(passed, key=lambda row: -row["ifd"])[:3]
    assert {row["id"] for row in chosen(three)} == {row["id"] for row in best}
    outside = [row for row in rejected(three) if row["decision"]["filter_rule"] == "below_top"]
    assert len(outside) == len(passed) - 3
    by_rifd = select_from(
        whole.run, None, scoring, max_ifd=9.0, max_rifd=9.0, top="3", rank_by="rifd"
    )
    lowest = sorted(passed, key=lambda row: row["rifd"])[:3]
    assert {row["id"] for row in chosen(by_rifd)} == {row["id"] for row in lowest}


def test_selections_with_names_stand_side_by_side(
    data: Path, tmp_path: Path, tiny_student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scoring = scoring_with(tiny_student)
    first = select_from(data, tmp_path / "run", scoring, max_ifd=9.0, max_rifd=9.0)
    strict = select_from(first.run, None, scoring, name="strict")
    assert (first.selection, strict.student) == (first.student, first.student)
    assert strict.selection == strict.selected.name == f"{first.student}~strict"
    assert strict.counts["sequences"] == 0
    run = RunDir(first.run)
    assert 0 < len(chosen(strict)) < len(chosen(first))
    assert "replaces" not in capsys.readouterr().err
    assert [finished_selection(run, name)[0] for name in ("strict", first.student)] == [
        strict.selection, first.selection,
    ]  # fmt: skip
    with pytest.raises(CurateError, match=r"several selections: .*~strict"):
        finished_selection(run, None)
    assert (run.selection_options(strict.selection) or {})["name"] == "strict"
    select_from(first.run, None, scoring, max_rifd=9.0, name="strict")
    assert f"replaces the selection {strict.selection}, made with max_rifd = 1.0;" in (
        capsys.readouterr().err
    )
    assert len(chosen(first)) == 18


@pytest.mark.parametrize("name", ["a/b", "", "~x", "random", ".hidden"])
def test_a_name_that_no_folder_can_have(name: str, tmp_path: Path, tiny_student: Path) -> None:
    with pytest.raises(UsageError, match="--name takes"):
        select_from(tmp_path, None, scoring_with(tiny_student), name=name)


# --- nothing twice -------------------------------------------------------------------------------


def test_other_thresholds_run_no_model(data: Path, tmp_path: Path, tiny_student: Path) -> None:
    scoring = scoring_with(tiny_student)
    first = select_from(data, tmp_path / "run", scoring)
    assert first.counts["sequences"] > 0
    before = [shard.read_bytes() for shard in score_shards(first)]
    for settings in ({"max_ifd": 0.9}, {"max_rifd": 2.0}, {"only_improved": True}, {"top": "1"}):
        again = select_from(first.run, None, scoring, **settings)
        assert again.counts["sequences"] == 0
        assert again.student == first.student
    assert [shard.read_bytes() for shard in score_shards(first)] == before
    assert len(chosen(select_from(first.run, None, scoring, max_ifd=9.0, max_rifd=9.0))) == 18


def sharded(path: Path) -> RunDir:
    """A run of three shards."""
    run = RunDir.create(path, {"command": "select", "input": "of the test's own"})
    rows = [Candidate(**row) for row in records(12)]
    for index in range(3):
        run.write_shard(index, rows[16 * index : 16 * (index + 1)])
    return run


def test_a_lost_score_shard_comes_back_bitwise(tmp_path: Path, tiny_student: Path) -> None:
    run = sharded(tmp_path / "run")
    first = select_from(run.path, None, scoring_with(tiny_student))
    before = scores_of(first)
    shards = score_shards(first)
    assert len(shards) == 3
    whole = first.counts["sequences"]
    shards[1].unlink()
    again = select_from(run.path, None, scoring_with(tiny_student, batch_tokens=100))
    assert 0 < again.counts["sequences"] < whole
    assert scores_of(again) == before
    assert chosen(again) == chosen(first)
    shards[2].write_bytes(shards[2].read_bytes()[:-20])  # torn
    assert scores_of(select_from(run.path, None, scoring_with(tiny_student))) == before


def test_only_a_candidate_that_was_reflected_again_is_scored_again(
    tmp_path: Path, tiny_student: Path
) -> None:
    run = sharded(tmp_path / "run")
    scoring = scoring_with(tiny_student, score_all=True)
    before = scores_of(select_from(run.path, None, scoring))
    rows = run.read_shard(run.shard_path(1))
    assert rows[3].candidate == "both"
    rows[3] = replace(rows[3], output="Why the list is polite.")
    run.write_shard(1, rows)
    again = select_from(run.path, None, scoring)
    assert again.counts["sequences"] == 4
    after = scores_of(again)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {(rows[3].id, "both")}


def test_scores_of_another_identity_lie_apart(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    first = select_from(data, tmp_path / "run", scoring_with(tiny_student))
    other = select_from(first.run, None, scoring_with(tiny_student, template="alpaca"))
    assert other.student != first.student
    assert other.counts["sequences"] > 0
    assert first.selected.exists()
    assert other.selected.exists()


# --- bad input -----------------------------------------------------------------------------------

FILLING = "list " * 300
ODD: dict[str, tuple[str, str]] = {
    "empty response": ("Say.", ""),
    "empty instruction": ("", "A list."),
    "both empty": ("", ""),
    "one token": ("Say a letter.", "a"),
    "prompt fills the context": (FILLING, "A list."),
    "long response": ("Say the list.", FILLING),
    "guess prefix overlong": ("Say the list.", "list " * 110),
    "1 MB": ("Say the list.", "the list in the list " * 50_000),
    "NUL": ("Say\0 it.", "\0\0"),
    "lone surrogate": ("Say \ud800 it.", "It \udfff."),
    "braces": ("{instruction} {input}", "{response}"),
    "special tokens": ("<s>Say</s>", "</s>"),
    "no words": ("\n\n \t", "\u200b\ufeff"),
}
# (IFD, r-IFD)
STATUSES = {
    "empty response": ("empty", "ok"),
    "empty instruction": ("ok", "empty"),
    "both empty": ("empty", "empty"),
    "one token": ("ok", "ok"),
    "prompt fills the context": ("overlong", "truncated"),
    "long response": ("truncated", "overlong"),
    "1 MB": ("truncated", "overlong"),
}


def odd_rows() -> list[Row]:
    return [
        {"id": name, "candidate": "original", "instruction": x, "output": y}
        for name, (x, y) in ODD.items()
    ]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> SelectResult:
    """Odd records among whole ones."""
    folder = tmp_path_factory.mktemp("odd")
    whole, mixed = records(4), []
    for index, row in enumerate(odd_rows()):
        mixed += [row, *whole[4 * index : 4 * (index + 1)]]
    data = write_jsonl(folder / "odd.jsonl", mixed)
    return select_from(data, folder / "run", scoring_with(tiny_student, score_all=True))


@pytest.mark.parametrize("name", ODD)
def test_odd_records_have_a_status_each(name: str, odd: SelectResult) -> None:
    score = scores_of(odd)[name, "original"]
    statuses = (score["ifd_status"], score["rifd_status"])
    assert statuses == STATUSES.get(name, statuses)
    assert set(statuses) <= {"ok", "truncated", "empty", "overlong"}
    for side, text in (("ifd", "response"), ("rifd", "instruction")):
        scored = score[f"{side}_status"] in ("ok", "truncated")
        assert (score[side] is not None) == scored
        assert (score[f"num_{text}_tokens"] > 0) == scored
    assert odd.failed_scores == 0


def test_an_overlong_guess_prefix_leaves_the_ifd_side_standing(odd: SelectResult) -> None:
    score = scores_of(odd)["guess prefix overlong", "original"]
    assert (score["ifd_status"], score["rifd_status"]) == ("ok", "overlong")
    assert score["num_response_tokens"] > 150
    assert score["ifd"] > 0


def test_what_fills_the_context_is_cut_to_it(odd: SelectResult) -> None:
    score = scores_of(odd)["1 MB", "original"]
    prefix = byte_level()("Say the list.\n\n### Response:\n")["input_ids"]
    assert score["num_response_tokens"] == 256 - len(prefix)


def test_odd_records_change_nothing_of_their_neighbours(
    odd: SelectResult, tmp_path: Path, tiny_student: Path
) -> None:
    data = write_jsonl(tmp_path / "whole.jsonl", records(4))
    scoring = scoring_with(tiny_student, score_all=True)
    apart = scores_of(select_from(data, tmp_path / "run", scoring))
    assert {key: scores_of(odd)[key] for key in apart} == apart


def test_odd_records_are_never_chosen_without_a_score(odd: SelectResult) -> None:
    rows = {row["id"]: row for row in rejected(odd)}
    for name, (ifd, rifd) in STATUSES.items():
        if "o" not in (ifd[0], rifd[0]) or "overlong" in (ifd, rifd):
            rule = "ifd_unscored" if ifd in ("empty", "overlong") else "rifd_unscored"
            assert rows[name]["decision"]["filter_rule"] == rule


def test_nan_weights_fail_every_score_and_select_nothing(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    model = llama()
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    result = select_from(
        data, tmp_path / "run", scoring_with(save_student(tmp_path / "nan", model))
    )
    assert set(result.counts["scores"]) == {"failed"}
    assert result.failed_scores == result.counts["scores"]["failed"] > 0
    assert result.counts["selected"] == 0
    assert {row["decision"]["filter_rule"] for row in rejected(result)} == {"ifd_unscored"}


def test_one_failing_record_leaves_its_neighbours(tmp_path: Path, tiny_student: Path) -> None:
    """NaN in the embedding of one token: only records that hold it fail, and they win nothing."""
    rows = records(6)
    marked = record("marked", seed=99)
    marked[1]["output"] = "§ " + marked[1]["output"]
    model = llama()
    token = min({*byte_level()("§")["input_ids"]} - {*byte_level()(json.dumps(rows))["input_ids"]})
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = torch.nan
    data = write_jsonl(tmp_path / "data.jsonl", rows + marked)
    broken = save_student(tmp_path / "broken", model)
    found = select_from(data, tmp_path / "run", scoring_with(broken, score_all=True))
    clean = write_jsonl(tmp_path / "clean.jsonl", rows)
    wanted = select_from(clean, tmp_path / "clean", scoring_with(tiny_student, score_all=True))
    scores = scores_of(found)
    assert {key: scores[key] for key in scores_of(wanted)} == scores_of(wanted)
    failed = {
        key for key, row in scores.items() if "failed" in (row["ifd_status"], row["rifd_status"])
    }
    assert failed == {("marked", "instruction")}
    assert scores["marked", "instruction"]["ifd_reason"]
    row = next(row for row in chosen(found) + rejected(found) if row["id"] == "marked")
    assert row["decision"]["instruction_rule"] == "instruction_unscored"
    assert row["candidate"] in ("original", "response")


# --- students that cannot be used ----------------------------------------------------------------


def fails(data: Path, tmp_path: Path, student: Path | str, **settings: Any) -> str:
    """The one sentence that selection ends with."""
    with pytest.raises(CurateError) as caught:
        select_from(data, tmp_path / "run", scoring_with(student, **settings))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_run_is_not_limited(data: Path, tmp_path: Path, tiny_student: Path) -> None:
    run = select_from(data, tmp_path / "run", scoring_with(tiny_student)).run
    limited = InputConfig(data=str(run), limit=3)
    with pytest.raises(CurateError, match="--limit"):
        select(SelectConfig(input=limited, scoring=scoring_with(tiny_student)))


def test_a_selection_half_made_anew_is_none(data: Path, tmp_path: Path, tiny_student: Path) -> None:
    scoring = scoring_with(tiny_student)
    made = select_from(data, tmp_path / "run", scoring)
    run = RunDir(made.run)
    assert finished_selection(run, None)[0] == made.student
    kept = made.baselines.rename(tmp_path / "baselines")
    made.baselines.symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises((CurateError, OSError)):
        select_from(made.run, None, scoring, max_ifd=0.5)
    with pytest.raises(CurateError, match="has not finished"):
        finished_selection(run, None)
    made.baselines.unlink()
    kept.rename(made.baselines)
    select_from(made.run, None, scoring, max_ifd=0.5)
    assert finished_selection(run, None)[1]["settings"]["max_ifd"] == 0.5


def test_a_length_beyond_the_context(data: Path, tmp_path: Path, tiny_student: Path) -> None:
    message = fails(data, tmp_path, tiny_student, max_length=257)
    assert "257" in message
    assert "256" in message
    select_from(data, tmp_path / "run", scoring_with(tiny_student, max_length=256))


def test_weights_that_are_pickled_are_not_loaded(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    folder = save_student(tmp_path / "pickled")
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    assert "safetensors" in fails(data, tmp_path, folder)


def test_damaged_weights(data: Path, tmp_path: Path) -> None:
    folder = save_student(tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot load the model" in fails(data, tmp_path, folder)


def test_weights_of_another_shape(data: Path, tmp_path: Path) -> None:
    folder = save_student(tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "model.norm.weight" in fails(data, tmp_path, folder)


def test_weights_that_are_missing_are_not_made_up(data: Path, tmp_path: Path) -> None:
    folder = save_student(tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks weights: lm_head.weight" in fails(data, tmp_path, folder)


def test_a_folder_that_is_not_there(data: Path, tmp_path: Path) -> None:
    assert "no such model folder" in fails(data, tmp_path, tmp_path / "nowhere")


def test_a_folder_that_is_no_model(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "config.json" in fails(data, tmp_path, tmp_path / "empty")


def test_a_hub_id_without_a_network(data: Path, tmp_path: Path) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "nobody/nothing-here" in fails(data, tmp_path, "nobody/nothing-here")


def test_a_student_without_a_chat_template(data: Path, tmp_path: Path) -> None:
    folder = save_student(tmp_path / "plain", tokenizer=byte_level(chat=None))
    assert "chat template" in fails(data, tmp_path, folder, template="chat")


def test_a_student_without_a_tokenizer(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mute"
    llama().save_pretrained(folder)
    assert "tokenizer" in fails(data, tmp_path, folder)


def test_a_student_without_bos_and_eos(data: Path, tmp_path: Path) -> None:
    folder = save_student(tmp_path / "bare", tokenizer=byte_level(bos=None, eos=None))
    assert "neither a BOS nor an EOS" in fails(data, tmp_path, folder)
    scoring = scoring_with(folder, tokenization="reference")
    assert select_from(data, tmp_path / "run", scoring).counts["sequences"] > 0


@pytest.mark.parametrize("template", ["chat", "vicuna", "alpaca"])
def test_every_template(template: Any, data: Path, tmp_path: Path, tiny_student: Path) -> None:
    result = select_from(data, tmp_path / "run", scoring_with(tiny_student, template=template))
    assert set(result.counts["scores"]) == {"ok"}
    shard = pq.read_table(score_shards(result)[0])
    assert shard.num_rows == 4 * 18
