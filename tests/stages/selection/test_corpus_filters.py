"""Rows that pass the filter and are rejected all the same: evaluation sets, the budget."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.method.corpus.ngrams import words
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.selection.stage import SelectResult

from ...scoring.tiny import TEXTS
from ...training.data import Row, chosen, records, rejected, scoring_with, select_from, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")
OPEN: dict[str, Any] = {"max_ifd": 9.0, "max_rifd": 9.0}


@pytest.fixture
def whole(tmp_path: Path, tiny_student: Path) -> SelectResult:
    """A run in which every record passes the filter."""
    data = write_jsonl(tmp_path / "candidates.jsonl", records(12))
    result = select_from(data, tmp_path / "run", scoring_with(tiny_student), **OPEN)
    assert len(chosen(result)) == 12
    return result


def again(whole: SelectResult, student: Path, **settings: Any) -> SelectResult:
    """Decide once more; no model runs."""
    result = select_from(whole.run, None, scoring_with(student), **OPEN | settings)
    assert result.counts["sequences"] == 0
    assert result.counts["selected"] + result.counts["rejected"] == 12
    return result


def rejected_as(result: SelectResult, rule: str) -> dict[str, str]:
    """The reasons of the rows that a rule rejected, by id."""
    rows = [row for row in rejected(result) if row["decision"]["filter_rule"] == rule]
    assert result.counts["by_rule"].get(rule, 0) == len(rows)
    return {row["id"]: row["reason"] for row in rows}


def evaluation_set(path: Path, *texts: str) -> str:
    return str(write_jsonl(path, [{"question": [text], "number": 3} for text in texts]))


def pair(row: Row) -> tuple[str, str]:
    return " ".join((row["instruction"], row["input"])).strip(), row["output"]


# --- evaluation sets ------------------------------------------------------------------------------


def test_what_repeats_an_evaluation_set_is_rejected_with_the_words(
    whole: SelectResult, tmp_path: Path, tiny_student: Path
) -> None:
    rows = chosen(whole)
    asked = next(row for row in rows if row["input"])
    said = next(row for row in rows if row["output"] not in pair(asked)[1] and row != asked)
    first = evaluation_set(tmp_path / "questions.jsonl", f"{pair(asked)[0].upper()}?")
    second = evaluation_set(tmp_path / "answers.jsonl", "nothing of it", said["output"])
    ngram = min(len(pair(asked)[0].split()), len(said["output"].split()))
    result = again(whole, tiny_student, decontaminate=(first, second), ngram=ngram)
    reasons = rejected_as(result, "contaminated")
    assert reasons[asked["id"]].startswith(f"contaminated: {ngram} words of questions.jsonl:1: ")
    assert f"{ngram} words of answers.jsonl:2: " in reasons[said["id"]]
    for id, reason in reasons.items():
        (row,) = [row for row in rows if row["id"] == id]
        repeated = reason.partition('"')[2].rstrip('"')
        assert any(repeated in " ".join(words(text)) for text in pair(row))
    counts = result.counts["contaminated"]
    assert sum(counts.values()) == len(reasons) and set(counts) == {first, second}
    assert len(chosen(result)) == 12 - len(reasons) > 0


def test_other_sets_decide_again_and_are_in_the_manifest(
    whole: SelectResult, tmp_path: Path, tiny_student: Path
) -> None:
    texts = [text for row in chosen(whole) for text in pair(row)]
    everything = evaluation_set(tmp_path / "everything.jsonl", *texts)
    result = again(whole, tiny_student, decontaminate=(everything,), ngram=1)
    assert len(rejected_as(result, "contaminated")) == 12
    entry = RunDir.open(whole.run).stage(f"select/{whole.student}")
    assert entry is not None
    fingerprint = entry["settings"]["decontaminate"][everything]
    assert len(fingerprint) == 64 and entry["settings"]["ngram"] == 1
    card = (result.selected / "README.md").read_text("utf-8")
    assert f"`{everything}` (fingerprint `{fingerprint[:16]}`)" in card
    assert len(chosen(again(whole, tiny_student))) == 12


def test_top_counts_the_rows_that_are_not_contaminated(
    whole: SelectResult, tmp_path: Path, tiny_student: Path
) -> None:
    ranked = sorted(chosen(whole), key=lambda row: -row["ifd"])
    known = evaluation_set(tmp_path / "best.jsonl", *pair(ranked[0]))
    ngram = max(len(text.split()) for text in pair(ranked[0]))
    result = again(whole, tiny_student, decontaminate=(known,), ngram=ngram, top="3")
    out = rejected_as(result, "contaminated")
    assert ranked[0]["id"] in out
    left = [row["id"] for row in ranked if row["id"] not in out]
    assert {row["id"] for row in chosen(result)} == set(left[:3])
    assert set(rejected_as(result, "below_top")) == set(left[3:])


def test_the_filter_comes_first(whole: SelectResult, tmp_path: Path, tiny_student: Path) -> None:
    texts = [text for row in chosen(whole) for text in pair(row)]
    everything = evaluation_set(tmp_path / "everything.jsonl", *texts)
    scoring = scoring_with(tiny_student)
    strict = select_from(whole.run, None, scoring, max_ifd=1e-9)
    both = select_from(whole.run, None, scoring, max_ifd=1e-9, decontaminate=(everything,), ngram=1)
    assert rejected(both) == rejected(strict)


def test_a_set_that_is_missing_or_empty_costs_no_scoring(
    tmp_path: Path, tiny_student: Path
) -> None:
    data = write_jsonl(tmp_path / "candidates.jsonl", records(2))
    scoring = scoring_with(tiny_student)
    empty = tmp_path / "empty.jsonl"
    empty.write_text(json.dumps({"number": 3}), "utf-8")
    for path, message in ((tmp_path / "absent.jsonl", "no such file"), (empty, "no text is in it")):
        with pytest.raises(CurateError, match=message):
            select_from(data, tmp_path / "run", scoring, decontaminate=(str(path),))
        assert not list((tmp_path / "run").glob("scores/*/part-*"))
    with pytest.raises(UsageError, match="--decontaminate"):
        select_from(data, tmp_path / "run", scoring, decontaminate=("-",))
    with pytest.raises(UsageError, match="--ngram"):
        select_from(data, tmp_path / "run", scoring, ngram=0)


# --- diversity ------------------------------------------------------------------------------------


def select_again(whole: SelectResult, student: Path, **settings: Any) -> SelectResult:
    return select_from(whole.run, None, scoring_with(student), **OPEN | settings)


def embedding_files(result: SelectResult) -> list[bytes]:
    folder = result.run / "scores" / result.student / "embeddings"
    return [path.read_bytes() for path in sorted(folder.glob("*"))]


def test_diverse_rows_come_from_the_best_and_are_decided_again_without_a_model(
    whole: SelectResult, tiny_student: Path
) -> None:
    ranked = [row["id"] for row in sorted(chosen(whole), key=lambda row: -row["ifd"])]
    result = select_again(whole, tiny_student, diverse=2)
    kept = {row["id"] for row in chosen(result)}
    assert len(kept) == 2 and kept <= set(ranked[:8])
    assert result.counts["sequences"] == 8
    out = rejected_as(result, "not_diverse")
    assert {id for id, why in out.items() if why == "--diverse chose rows like it"} == (
        set(ranked[:8]) - kept
    )
    assert {id for id, why in out.items() if "rank higher" in why} == set(ranked[8:])
    assert again(whole, tiny_student, diverse=2).counts["by_rule"] == result.counts["by_rule"]
    before = embedding_files(result)
    again(whole, tiny_student, diverse=1)
    assert embedding_files(result) == before
    assert len(chosen(select_again(whole, tiny_student, diverse=3))) == 3  # a larger pool
    again(whole, tiny_student, diverse=3, rank_by="ifd")


def test_top_is_the_pool(whole: SelectResult, tiny_student: Path, capsys: Any) -> None:
    ranked = [row["id"] for row in sorted(chosen(whole), key=lambda row: -row["ifd"])]
    result = select_again(whole, tiny_student, diverse=2, top="5")
    assert {row["id"] for row in chosen(result)} <= set(ranked[:5])
    assert set(rejected_as(result, "below_top")) == set(ranked[5:])
    assert len(rejected_as(result, "not_diverse")) == 3
    everything = again(whole, tiny_student, diverse=7, top="5")
    assert {row["id"] for row in chosen(everything)} == set(ranked[:5])
    assert "--diverse 7 keeps all of its pool, which has 5 records" in capsys.readouterr().err


def test_equal_instructions_are_chosen_once(tmp_path: Path, tiny_student: Path) -> None:
    """Four wordings, four times each with other responses: four that differ."""
    texts = [text.partition(".")[0] for text in TEXTS]
    rows = [
        {"id": f"{answer}-{number}", "instruction": text, "output": f"{TEXTS[answer]} {number}"}
        for answer in range(4)
        for number, text in enumerate(texts)
    ]
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    result = select_from(
        data, tmp_path / "run", scoring_with(tiny_student), **OPEN, diverse=4, top="16"
    )
    kept = [row["id"] for row in chosen(result)]
    assert kept == [f"0-{number}" for number in range(4)]  # of equals the first id
