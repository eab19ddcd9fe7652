"""Pairs of each source, the folder they make, and bad input."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from curate.pipeline import pairs as api_pairs
from curate.pipeline.config import InputConfig, PairsConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.records import Candidate, CandidateKind, Score
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.published.pair_set import PairSet
from curate.pipeline.scoring.identity import ScoringIdentity, note_identity
from curate.pipeline.scoring.score_files import ScoreFiles
from curate.pipeline.stages.explaining import explain, in_words
from curate.pipeline.stages.pairs.stage import PairsResult, pairs

from ...conftest import shared
from ...training.data import Row, write_jsonl

KINDS: tuple[CandidateKind, ...] = ("original", "instruction", "response", "both")


def make(data: Path | str, out: Path, **settings: Any) -> PairsResult:
    return pairs(PairsConfig(input=InputConfig(data=str(data)), out=out, **settings))


def rows(result: PairsResult) -> list[Row]:
    found: list[Row] = load_from_disk(str(result.out)).to_list()
    return found


def left_out(result: PairsResult) -> list[Row]:
    found: list[Row] = load_from_disk(str(result.out / "left_out")).to_list()
    return found


def texts(result: PairsResult) -> list[tuple[str, str, str]]:
    """id, chosen and rejected of each pair."""
    return [(r["id"], r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in rows(result)]


def reasons(result: PairsResult) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in left_out(result)}


# --- of a run -------------------------------------------------------------------------------------


def identity(name: str = "student") -> ScoringIdentity:
    return ScoringIdentity(
        student=name, revision="0", template="vicuna", template_version="0", template_date=None,
        tokenization="exact",
        max_length=512, dtype="bfloat16",
    )  # fmt: skip


def record(id: str, *logs: float | None) -> tuple[dict[Any, Candidate], dict[Any, Score]]:
    """Four candidates; `logs` are their log r-IFDs in the order of KINDS, None unscored."""
    candidates: dict[Any, Candidate] = {}
    scores: dict[Any, Score] = {}
    for kind, log in zip(KINDS, logs, strict=False):
        asked = f"{id} {'new' if kind in ('instruction', 'both') else 'old'}?"
        candidates[kind] = Candidate(
            id=id, candidate=kind, instruction=asked, input="", output=f"{id} {kind}"
        )
        if log is not None:
            scores[kind] = Score(
                id=id, candidate=kind, nll_instruction=3.0, nll_instruction_given_response=3 + log,
                rifd=math.exp(log), rifd_status="ok",
            )  # fmt: skip
    return candidates, scores


RECORDS = (
    record("r1", -0.5, -0.4, -0.75, -0.1),
    record("r2", -0.5, -0.4, -0.25, None),
    record("r3", -0.5, None, -0.5, None),
    record("r4", -0.5, -0.4, -0.5006, -0.6),
)


def run_of(path: Path, shards: Any, *, noise: float | None = None) -> Path:
    run = RunDir.create(path, {"command": "select", "input": "of the test's own"})
    files = ScoreFiles(run, identity())
    note_identity(files.folder, files.identity)
    for index, records in enumerate(shards):
        run.write_shard(index, [one for candidates, _ in records for one in candidates.values()])
        files.write(run.shard_path(index), [c for c, _ in records], [s for _, s in records])
    run.finish_stage("import", {"records": 4})
    if noise is not None:
        text = json.dumps({"nll_standard_deviation": noise})
        (files.folder / "noise.json").write_text(text, "utf-8")
    return path


def test_a_runs_rivals_are_paired_by_rifd(tmp_path: Path) -> None:
    result = make(run_of(tmp_path / "run", [RECORDS], noise=1e-4), tmp_path / "pairs")
    assert texts(result) == [
        ("r1", "r1 response", "r1 original"),
        ("r1", "r1 instruction", "r1 both"),
        ("r2", "r2 original", "r2 response"),
        ("r4", "r4 response", "r4 original"),
        ("r4", "r4 both", "r4 instruction"),
    ]
    assert [(r["id"], r["reason"]) for r in left_out(result)] == [
        ("r2", "unscored"), ("r3", "tie"), ("r3", "unscored"),
    ]  # fmt: skip
    first = rows(result)[0]
    assert first["margin"] == pytest.approx(0.25)
    assert first["chosen_score"] == pytest.approx(math.exp(-0.75))
    assert first["chosen_from"]["candidate"] == "response"
    assert first["prompt"] == [{"role": "user", "content": "r1 old?"}]
    assert [row["near_tie"] for row in rows(result)] == [False, False, False, True, False]
    assert result.counts["near_ties"] == 1
    assert result.counts["left_out"] == {"tie": 1, "unscored": 2}


def test_shards_change_no_pair(tmp_path: Path) -> None:
    settings = {"balance_length": True, "min_margin": 1e-4}
    one = make(run_of(tmp_path / "a", [RECORDS]), tmp_path / "pairs-a", **settings)
    four = run_of(tmp_path / "b", [[record] for record in RECORDS[::-1]])
    two = make(four, tmp_path / "pairs-b", **settings)
    assert sorted(texts(one)) == sorted(texts(two))
    assert one.counts == two.counts


def test_scores_of_other_texts_count_as_none(tmp_path: Path) -> None:
    path = run_of(tmp_path / "run", [RECORDS[:1]])
    candidates, _ = record("r1", 0.0, 0.0, 0.0, 0.0)
    changed = [Candidate(**{**{n: getattr(c, n) for n in c.__slots__}, "output": "another"})
               for c in candidates.values()]  # fmt: skip
    RunDir.open(path).write_shard(0, changed)
    assert make(path, tmp_path / "pairs").counts["left_out"] == {"identical": 2}


def test_the_student_is_named_where_there_are_several(tmp_path: Path) -> None:
    path = run_of(tmp_path / "run", [RECORDS])
    run = RunDir.open(path)
    other = ScoreFiles(run, identity("other"))
    note_identity(other.folder, other.identity)
    other.write(run.shard_path(0), [c for c, _ in RECORDS], [{} for _ in RECORDS])
    with pytest.raises(CurateError, match=r"--student, of other-\w+, student-\w+"):
        make(path, tmp_path / "pairs")
    assert make(path, tmp_path / "pairs", student="stud").counts["pairs"] == 5
    with pytest.raises(UsageError, match="--student"):
        make(samples(tmp_path / "s.jsonl", ("q", "a", 1)), tmp_path / "p", student="stud")
    unscored = RunDir.create(tmp_path / "new", {"command": "select", "input": "x"})
    unscored.write_shard(0, [])
    with pytest.raises(CurateError, match="no scores"):
        make(tmp_path / "new", tmp_path / "p")


# --- of samples -----------------------------------------------------------------------------------


def samples(path: Path, *answers: tuple[str, str, Any]) -> Path:
    """Instruction, answer and rating of each row, all instructions' ids being their text."""
    made = [
        {"id": asked, "sample": n, "instruction": asked, "output": text, "model": "m",
         "rating": rating}
        for n, (asked, text, rating) in enumerate(answers)
    ]  # fmt: skip
    return write_jsonl(path, made)


def test_samples_of_a_prompt_need_not_stand_together(tmp_path: Path) -> None:
    data = samples(
        tmp_path / "s.jsonl",
        ("q1", "a", 1), ("q2", "c", 4), ("q1", "b", 3), ("q3", "d", 2), ("q1", "e", None),
        ("q2", "f", "NaN"), ("q4", "g", 2), ("q4", "h", 2.0), ("q5", "i", "1.5"), ("q5", "j", 5),
    )  # fmt: skip
    result = make(data, tmp_path / "pairs")
    assert texts(result) == [("q1", "b", "a"), ("q5", "j", "i")]
    assert reasons(result) == {"q2": "unscored", "q3": "no_rival", "q4": "tie"}
    assert rows(result)[0]["chosen_from"] == {
        "candidate": None, "sample": 2, "model": "m", "reply_key": None,
    }  # fmt: skip
    assert result.counts["input"]["rows"] == 10


def test_a_cut_answer_is_no_side_of_a_pair(tmp_path: Path) -> None:
    made = [
        {"id": "q", "instruction": "q", "output": text, "rating": rating, "finish_reason": reason}
        for text, rating, reason in (("a", 5, "length"), ("b", 4, "stop"), ("c", 1, None))
    ]
    assert texts(make(write_jsonl(tmp_path / "s.jsonl", made), tmp_path / "p")) == [("q", "b", "c")]


def test_foreign_forms_of_ratings(tmp_path: Path) -> None:
    def rating(*ratings: str) -> Row:
        return {str(n): {"Rating": rating} for n, rating in enumerate(ratings)}

    ultra = {
        "instruction": "u",
        "completions": [
            {"response": "a", "model": "x", "overall_score": 10, "annotations": rating("1", "2")},
            {"response": "b", "model": "y", "overall_score": 8, "annotations": rating("5", "N/A")},
            {"response": "c", "model": "z", "fine-grained_score": 3.0, "overall_score": 9},
        ],
    }
    distil = {
        "instruction": "d", "generations": ["e", "f", None], "ratings": [None, 2, 1],
        "generation_models": ["x", "y", "z"],
    }  # fmt: skip
    both = {"id": 7, "instruction": "g", "generations": ["h", "i"], "ratings": [1, 3]}
    bad = {"instruction": "k", "generations": ["h", "i"], "ratings": [1]}
    data = write_jsonl(tmp_path / "s.jsonl", [ultra, distil, both, bad])
    result = make(data, tmp_path / "pairs")
    assert [row[1:] for row in texts(result)] == [("b", "a"), ("i", "h")]
    assert rows(result)[0]["chosen_from"]["model"] == "y"
    assert rows(result)[0]["margin"] == 3.5
    assert rows(result)[1]["id"] == "7"
    assert list(reasons(result).values()) == ["empty"]
    assert result.counts["input"]["rejected"] == 1
    (unused,) = json.loads((result.out / "rejected_input.json").read_text("utf-8"))
    assert "ratings" in unused["reason"]


def test_rows_in_memory(tmp_path: Path) -> None:
    given = [{"id": "q", "instruction": "q", "output": text, "rating": n}
             for n, text in enumerate(("a", "b"))]  # fmt: skip
    result = api_pairs(given, out=tmp_path / "pairs", progress=False)
    assert texts(result) == [("q", "b", "a")]


def test_rso(tmp_path: Path) -> None:
    answers = [(f"q{q}", f"answer {q} {n}", n / 4) for n in range(12) for q in range(5)]
    data = samples(tmp_path / "s.jsonl", *answers)
    settings: dict[str, Any] = {"choose": "rso", "keep": 4, "beta": 0.5}
    result = make(data, tmp_path / "pairs", **settings)
    assert result.counts["pairs"] == 10
    assert {row["source"] for row in rows(result)} == {"rso"}
    other = samples(tmp_path / "t.jsonl", *sorted(answers, key=lambda one: one[0], reverse=True))
    assert sorted(texts(make(other, tmp_path / "pairs2", **settings))) == sorted(texts(result))
    seeded = make(data, tmp_path / "pairs3", **settings, seed=1)
    assert sorted(texts(seeded)) != sorted(texts(result))


# --- of verdicts ----------------------------------------------------------------------------------


def judged(*reviews: tuple[str | None, str | None]) -> list[Row]:
    return [
        {"id": f"v{n}", "instruction": f"q{n}", "Answer1": "one", "Answer2": "two",
         "review": forward, "review_reverse": reverse}
        for n, (forward, reverse) in enumerate(reviews)
    ]  # fmt: skip


def verdicts(path: Path, data: list[Row]) -> Path:
    about = {"model_1": "m1", "model_2": "m2", "scale": [1, 10]}
    path.write_text(json.dumps({"Meta_Info": about, "data": data}, indent=2), "utf-8")
    return path


def test_the_winner_of_both_orders_is_chosen(tmp_path: Path) -> None:
    data = judged(("8 6\nx", "5 7\nx"), ("5 9\nx", "6 6\nx"), ("8 6\nx", "9 3\nx"), ("?", "8 7\nx"))
    folder = tmp_path / "judged"
    folder.mkdir()
    verdicts(folder / "verdicts.json", data)
    for name, place in (("file", folder / "verdicts.json"), ("folder", folder)):
        result = make(place, tmp_path / name)
        assert texts(result) == [("v0", "one", "two"), ("v1", "two", "one")]
        assert reasons(result) == {"v2": "tie", "v3": "unscored"}
    first, second = rows(result)
    assert (first["chosen_score"], first["rejected_score"], first["margin"]) == (7.5, 5.5, 2)
    assert (second["chosen_from"]["model"], second["margin"]) == ("m2", 2)


@pytest.mark.shared
def test_published_verdicts(tmp_path: Path) -> None:
    """44 wins, 15 ties and 21 losses, as the paper's authors count them."""
    data = shared("data/judgments/cherry5_vs_alpaca_vicuna_gpt4.json.gz")
    result = make(data, tmp_path / "pairs")
    winners = [row["chosen_from"]["candidate"] for row in rows(result)]
    assert (winners.count("answer 1"), winners.count("answer 2")) == (44, 21)
    assert result.counts["left_out"] == {"tie": 15}


def test_verdicts_without_texts(tmp_path: Path) -> None:
    data = judged(("8 6\nx", "5 7\nx"), ("8 6\nx", "5 7\nx"))
    del data[1]["Answer2"]
    result = make(verdicts(tmp_path / "v.json", data), tmp_path / "pairs")
    assert reasons(result) == {"v1": "empty"}
    for row in data:
        row |= {"Answer1": None, "Answer2": None}
    with pytest.raises(CurateError, match="without the answers"):
        make(verdicts(tmp_path / "w.json", data), tmp_path / "other")


# --- of demonstrations ----------------------------------------------------------------------------


def test_demonstrations_against_a_models_answers(tmp_path: Path) -> None:
    data = write_jsonl(
        tmp_path / "data.jsonl",
        [
            {"id": "d1", "instruction": "q1", "input": "with", "output": "good"},
            {"id": "d2", "instruction": "q2", "output": "same"},
            {"id": "d3", "instruction": "q3", "output": "alone"},
        ],
    )
    against = tmp_path / "answers.json"
    answers = [
        {"instruction": "q1", "input": "with", "output": "own 1", "generator": "m"},
        {"instruction": "q1", "input": "with", "output": "own 2", "generator": "m"},
        {"instruction": "q2", "output": "same ", "generator": "m"},
        {"instruction": "q9", "output": "unused", "generator": "m"},
    ]
    against.write_text(json.dumps(answers), "utf-8")
    result = make(data, tmp_path / "pairs", against=str(against))
    assert texts(result) == [("d1", "good", "own 1"), ("d1", "good", "own 2")]
    assert reasons(result) == {"d2": "identical", "d3": "no_rival"}
    first = rows(result)[0]
    assert first["prompt"] == [{"role": "user", "content": "q1\nwith"}]
    assert (first["margin"], first["rejected_from"]["model"]) == (None, "m")


# --- what pairs must hold -------------------------------------------------------------------------


def test_filters_are_counted(tmp_path: Path) -> None:
    data = samples(
        tmp_path / "s.jsonl",
        ("q1", "one", 5), ("q1", "two", 4.5),
        ("q2", "long " * 20, 5), ("q2", "short", 1),
        ("q3", "one two three four five six seven eight nine", 5), ("q3", "9 8 7 6 5 4 3 2", 1),
        ("q4", "yes", 5), ("q4", "no", 1),
    )  # fmt: skip
    exam = write_jsonl(tmp_path / "e.jsonl", [{"q": "Two three four five six seven eight nine!"}])
    result = make(
        data, tmp_path / "pairs", min_margin=1, max_length_ratio=4, decontaminate=(str(exam),),
    )  # fmt: skip
    assert [row[0] for row in texts(result)] == ["q4"]
    assert reasons(result) == {"q1": "below_margin", "q2": "length", "q3": "contaminated"}


def test_lengths_are_balanced(tmp_path: Path) -> None:
    data = samples(
        tmp_path / "s.jsonl",
        ("q1", "long one", 5), ("q1", "short", 1),
        ("q2", "long one", 5), ("q2", "short", 4),
        ("q3", "short", 5), ("q3", "long one", 1),
        ("q4", "short", 5), ("q4", "equal", 1),
    )  # fmt: skip
    result = make(data, tmp_path / "pairs", balance_length=True)
    assert [row[0] for row in texts(result)] == ["q1", "q3", "q4"]
    assert reasons(result) == {"q2": "length"}
    counts = result.counts
    assert (counts["chosen_longer"], counts["chosen_shorter"], counts["length_auc"]) == (1, 1, 0.5)


# --- the folder -----------------------------------------------------------------------------------


def test_the_folder_says_what_it_is(tmp_path: Path) -> None:
    data = samples(tmp_path / "s.jsonl", ("q1", "a", 1), ("q1", "b", 3), ("q2", "c", 3))
    result = make(data, tmp_path / "pairs", tier=0.1)
    card = (result.out / "README.md").read_text("utf-8")
    assert "1 pairs" in card and "| `no_rival` | 1 |" in card and "tier: `0.1`" in card
    page = (result.out / "report.html").read_text("utf-8")
    assert 'data-n="left_out.no_rival"' in page and "<svg" in page
    found = PairSet(result.out)
    assert [row["id"] for row in found.rows("q1")] == ["q1"]
    assert [row["reason"] for row in found.left_out("q2")] == ["no_rival"]
    assert not [path for path in result.out.iterdir() if path.name.startswith(".")]


def test_the_same_again_does_nothing_and_other_settings_are_refused(tmp_path: Path) -> None:
    data = samples(tmp_path / "s.jsonl", ("q1", "a", 1), ("q1", "b", 3))
    first = make(data, tmp_path / "pairs")
    before = {path: path.stat().st_mtime_ns for path in first.out.rglob("*")}
    again = make(data, tmp_path / "pairs")
    assert again.already_made and again.counts == first.counts
    assert {path: path.stat().st_mtime_ns for path in first.out.rglob("*")} == before
    with pytest.raises(CurateError, match="min_margin"):
        make(data, tmp_path / "pairs", min_margin=0.5)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "note.txt").write_text("mine", "utf-8")
    with pytest.raises(CurateError, match="holds no pairs"):
        make(data, mine)


def test_no_pair_at_all_is_a_finding(tmp_path: Path) -> None:
    result = make(samples(tmp_path / "s.jsonl", ("q1", "a", 1)), tmp_path / "pairs")
    assert rows(result) == [] and result.counts["length_auc"] is None
    assert reasons(result) == {"q1": "no_rival"}


# --- in words -------------------------------------------------------------------------------------


def test_a_record_is_explained_by_the_run_and_by_the_pairs(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [RECORDS])
    folder = make(run, tmp_path / "pairs", min_margin=0.22).out
    of_run, of_pairs = (explain(str(path), "r1") for path in (run, folder))
    assert [row["margin"] for row in of_run.pairs] == pytest.approx([0.25, 0.3])
    assert of_pairs.pairs == [*PairSet(folder).rows("r1")]
    for found in (of_run, of_pairs):
        text = "\n".join(in_words(found))
        assert "response over original (r-IFD 0.4724 against 0.6065, margin 0.25)" in text
        assert "chosen: r1 response" in text
    of_run, of_pairs = (explain(str(path), "r4") for path in (run, folder))
    assert [row.get("reason") for row in of_run.pairs] == [None, None]
    assert [row.get("reason") for row in of_pairs.pairs] == ["below_margin"] * 2
    assert "no pair of response and original: below_margin" in "\n".join(in_words(of_pairs))
    with pytest.raises(CurateError, match="'r' begins several"):
        explain(str(folder), "r")


# --- bad input ------------------------------------------------------------------------------------


def test_data_without_answers_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"none of the 1 rows .*'output'"):
        make(write_jsonl(tmp_path / "s.jsonl", [{"instruction": "q"}]), tmp_path / "pairs")
    with pytest.raises(CurateError, match="no prompt"):
        make(write_jsonl(tmp_path / "t.jsonl", [{"output": "q"}]), tmp_path / "pairs")
    (tmp_path / "empty.jsonl").write_text("", "utf-8")
    with pytest.raises(CurateError, match="is empty"):
        make(tmp_path / "empty.jsonl", tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"tier": 0.5}, {"tier": math.nan}, {"beta": 0}, {"keep": 1}, {"min_margin": -1},
        {"min_margin": math.nan}, {"max_length_ratio": 0.5}, {"choose": "best"},
        {"against": "x", "min_margin": 1}, {"choose": "rso", "tier": 0.1},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--"):
        make("data.jsonl", tmp_path / "pairs", **settings)


def test_several_samples_are_needed_for_rso(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--choose"):
        make(run_of(tmp_path / "run", [RECORDS]), tmp_path / "pairs", choose="rso")
