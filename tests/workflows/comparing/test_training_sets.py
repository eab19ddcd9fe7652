"""What each set of a comparison holds: the right number, versions that exist, nothing held out."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.method.decision import Outcome
from curate.pipeline.records import Candidate, Decision, Example
from curate.pipeline.runs.decisions import DecisionFiles
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.published.selected import write_sets
from curate.pipeline.scoring.score_files import read_records
from curate.pipeline.stages.selection.deciding import decision_table
from curate.pipeline.workflows.comparing.training_sets import (
    Pool,
    asking,
    pool_of,
    sets_of_like_length,
    split_off,
    training_set,
)

KINDS: tuple[Any, ...] = ("original", "instruction", "response", "both")
KEPT = {"r1": "response", "r3": "both", "r4": "original", "r8": "instruction"}


def candidate(number: int, kind: Any) -> Candidate:
    lacks = kind == "response" and number % 2 == 0
    texts: dict[str, Any] = (
        {"status": "failed"}
        if lacks
        else {"instruction": f"{kind}?", "input": "", "output": "x" * (10 * number + len(kind))}
    )
    return Candidate(id=f"r{number}", candidate=kind, system="Be brief.", **texts)


def outcome_of(id: str) -> tuple[Any, Decision, str | None]:
    decision = Decision(instruction_rule="a", response_rule="b", filter_rule="kept")
    return KEPT.get(id, "original"), decision, None if id in KEPT else "out"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Ten records, four of them selected; every second lacks a response reflection."""
    run = RunDir.create(tmp_path / "run", {})
    for shard in range(2):
        numbers = range(5 * shard, 5 * shard + 5)
        run.write_shard(shard, [candidate(number, kind) for number in numbers for kind in KINDS])
    draft = DecisionFiles.of(run, "s").begin_draft()
    for path in run.shard_paths():
        records = read_records(run, path)
        outcomes = [Outcome(*outcome_of(next(iter(record.values())).id)) for record in records]
        draft.write(path, decision_table(records, [{} for _ in records], outcomes))
    DecisionFiles.of(run, "s").publish(draft)
    write_sets(run, "s", str)
    return run


def pool(run: RunDir, held: Iterable[str] = ()) -> Pool:
    return pool_of(run, {"selected": run.path / "selected" / "s"}, set(held))


def texts(pool: Pool, name: Any, seed: int = 0) -> dict[str, str]:
    rows = [
        row if isinstance(row, dict) else {s: getattr(row, s) for s in Example.__slots__}
        for row in training_set(pool, name, seed)
    ]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row["output"] for row in rows}


def text(number: int, kind: str) -> str:
    return "x" * (10 * number + len(kind))


def test_the_selected_rows_and_all_originals(run: RunDir) -> None:
    expected = {id: text(int(id[1:]), kind) for id, kind in KEPT.items()}
    assert texts(pool(run), "selected") == expected
    assert texts(pool(run), "all") == {f"r{n}": text(n, "original") for n in range(10)}


def test_drawn_sets_have_the_selections_size_and_texts_that_are_there(run: RunDir) -> None:
    originals = texts(pool(run), "all")
    for seed in range(5):
        drawn = texts(pool(run), "random", seed)
        assert len(drawn) == 4 and drawn.items() <= originals.items()
        versions = texts(pool(run), "candidates", seed)
        assert len(versions) == 4
        for id, output in versions.items():
            assert output in {text(int(id[1:]), k) for k in KINDS}
    assert texts(pool(run), "random", 1) != texts(pool(run), "random", 2)
    kinds = [len(o) % 10 for s in range(20) for o in texts(pool(run), "candidates", s).values()]
    assert len(set(kinds)) == 3  # original and response, instruction, both: by their lengths


def test_lengths_are_those_of_the_nearest_originals(run: RunDir) -> None:
    # 91, 48, 34, 18 characters are wanted; the originals have 8, 18, 28, ...
    assert sorted(map(len, texts(pool(run), "length").values())) == [18, 38, 48, 88]


def test_a_set_of_like_length_needs_originals_of_like_length(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    # |91 - 88| + |48 - 48| + |34 - 38| + |18 - 18| of 191 characters
    sets = ("selected", "random", "length")
    assert sets_of_like_length(pool(run), sets) == sets and not capsys.readouterr().err
    longer = replace(pool(run), wanted={"r1": 200, "r2": 300})
    assert sets_of_like_length(longer, sets) == ("selected", "random")
    assert f"differ by {(500 - 98 - 88) / 500:.0%} of" in capsys.readouterr().err
    with pytest.raises(CurateError, match="no set is left"):
        sets_of_like_length(longer, ("length",))
    assert sets_of_like_length(longer, ("random",)) == ("random",)
    fewer = replace(pool(run), lengths={"r1": 18})
    assert sets_of_like_length(fewer, sets) == ("selected", "random")
    assert "1 originals for 4 selected rows" in capsys.readouterr().err


def test_nothing_of_a_held_out_record_is_in_any_set(run: RunDir) -> None:
    for name in ("selected", "random", "length", "candidates", "all"):
        found = texts(pool(run, {"r1", "r2", "r9"}), name)
        assert not {"r1", "r2", "r9"} & set(found)
        assert len(found) == (7 if name == "all" else 3)


def test_the_split_is_of_originals_and_always_the_same(run: RunDir) -> None:
    held = split_off(run, 0.2)
    assert held == split_off(run, 2) and len(held) == 2
    assert all(example.instruction == "original?" for example in held)
    assert all(example.system == "Be brief." for example in held)
    assert len(split_off(run, 0.001)) == 1


def test_the_records_that_ask_a_question_in_any_version(run: RunDir) -> None:
    assert asking(run, {"response?"}) == {f"r{n}" for n in range(1, 10, 2)}
    assert asking(run, {"response?\nx", ""}) == set()
