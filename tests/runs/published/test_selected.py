"""The selected and rejected sets: `datasets` loads them, with whatever columns came along."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.examples import chunks
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.method.decision import Outcome
from curate.pipeline.records import REJECTED_SCHEMA, SELECTED_SCHEMA, Candidate, Decision, Score
from curate.pipeline.runs.decisions import DecisionFiles
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.published import arrow_set
from curate.pipeline.runs.published.arrow_set import read_rows
from curate.pipeline.runs.published.selected import Sets, write_sets
from curate.pipeline.stages.selection.deciding import decision_table

DECISION = Decision(
    instruction_rule="lower", response_rule="kept", filter_rule="passed", ifd_original=0.5
)
CHUNK = 1000  # records in a shard, whose further columns are looked at together


class Row(NamedTuple):
    candidate: Candidate
    score: Score
    outcome: Outcome


def row(
    id: object, extra: Mapping[str, Any] | None = None, reason: str | None = None, **more: Any
) -> Row:
    """A record of one candidate, with what was decided of it."""
    kind = more.pop("kind", "both")
    return Row(
        candidate=Candidate(
            id=str(id),
            candidate=kind,
            extra=None if extra is None else json.dumps(extra, ensure_ascii=False),
            **{"instruction": "Add.", "input": "1 2", "output": "3"} | more.pop("texts", {}),
        ),
        score=Score(id=str(id), candidate=kind, ifd=0.25),
        outcome=Outcome(kind, more.pop("decision", DECISION), reason),
    )


def written(
    tmp_path: Path, rows: list[Row], card: Callable[[Mapping[str, Any]], str] = str
) -> Sets:
    run = RunDir.create(tmp_path / "run", {})
    decisions = DecisionFiles.of(run, "student")
    for stale in run.shard_paths():
        stale.unlink()
    draft = decisions.begin_draft()
    for index, chunk in enumerate(chunks(rows, CHUNK)):
        # The candidate stands for the record's original too, whose further columns count.
        run.write_shard(index, [row.candidate for row in chunk])
        table = decision_table(
            [{row.candidate.candidate: row.candidate} for row in chunk],
            [{row.candidate.candidate: row.score} for row in chunk],
            [row.outcome for row in chunk],
        )
        place = table.schema.get_field_index("original_row")
        table = table.set_column(place, "original_row", pa.array(range(len(chunk)), pa.int64()))
        draft.write(run.shard_path(index), table)
    decisions.publish(draft)
    return write_sets(run, "student", card)


def loaded(folder: Path) -> datasets.Dataset:
    """The set as `load_from_disk` has it; `load_dataset` must agree.

    `load_dataset` refuses whatever has no rows, unless it streams.
    """
    found = datasets.load_from_disk(str(folder))
    assert isinstance(found, datasets.Dataset)
    other = datasets.load_dataset(
        "arrow",
        data_files=str(folder / "*.arrow"),
        split="train",
        cache_dir=str(folder.parent / ".cache"),
        streaming=not found.num_rows,
    )
    assert other.features == found.features
    if not found.num_rows:
        assert list(other) == []
        return found
    assert other.num_rows == found.num_rows
    assert repr(other[:]) == repr(found[:])
    return found


def carried(tmp_path: Path, *extras: Mapping[str, Any]) -> tuple[dict[str, str], list[Any]]:
    """The types of the further columns, and the first one's values."""
    sets = written(tmp_path, [row(n, extra) for n, extra in enumerate(extras)])
    found = datasets.load_from_disk(str(sets.selected))
    further = [name for name in found.column_names if name not in SELECTED_SCHEMA.names]
    types = {name: str(found.features[name]) for name in further}
    return types, found[:][further[0]] if further else []


def far_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Two rows whose columns are not looked at together."""
    return [first, *[{}] * (CHUNK - 1), second]


NO_TEXTS = {"instruction": None, "input": None, "output": None, "status": "failed"}


# --- both sets -------------------------------------------------------------------------------


def test_both_sets_load(tmp_path: Path) -> None:
    rows = [
        row("a", {"n": 1}),
        row("b", {"n": 2}, reason="ifd is above 1"),
        row("c", {"n": 3}, texts=NO_TEXTS, kind="original", reason="failed"),
        row("d", {"n": 4}, kind="original"),
    ]
    sets = written(tmp_path, rows, lambda counts: f"# A card\n{counts['selected']} selected\n")
    assert sets.selected == tmp_path / "run" / "selected" / "student"
    selected, rejected = loaded(sets.selected), loaded(sets.rejected)
    assert selected.column_names == [*SELECTED_SCHEMA.names, "n"]
    assert rejected.column_names == [*REJECTED_SCHEMA.names, "n"]
    assert selected["id"] == ["a", "d"] and rejected["id"] == ["b", "c"]
    assert selected[0] == {
        "id": "a",
        "instruction": "Add.",
        "input": "1 2",
        "output": "3",
        "messages": [
            {"role": "user", "content": "Add.\n1 2"},
            {"role": "assistant", "content": "3"},
        ],
        "candidate": "both",
        "ifd": 0.25,
        "rifd": None,
        "decision": {name: getattr(DECISION, name) for name in Decision.__slots__},
        "n": 1,
    }
    assert rejected["reason"] == ["ifd is above 1", "failed"]
    assert (rejected[1]["instruction"], rejected[1]["messages"]) == (None, None)
    assert (sets.selected / "README.md").read_text() == "# A card\n2 selected\n"
    assert not (sets.rejected / "README.md").exists()


def test_system_turn_and_no_input(tmp_path: Path) -> None:
    texts = {"input": "", "system": "Be brief."}
    sets = written(tmp_path, [row("a", kind="original", texts=texts)])
    assert [(m["role"], m["content"]) for m in loaded(sets.selected)[0]["messages"]] == [
        ("system", "Be brief."),
        ("user", "Add."),
        ("assistant", "3"),
    ]


@pytest.mark.parametrize("reason", [None, "no"])
@pytest.mark.parametrize("number", [0, 3])
def test_empty_sets_load_too(tmp_path: Path, number: int, reason: str | None) -> None:
    rows = [row(n, {"k": [n], "none": None}, reason=reason) for n in range(number)]
    sets = written(tmp_path, rows)
    selected, rejected = loaded(sets.selected), loaded(sets.rejected)
    assert selected.num_rows == (number if reason is None else 0)
    assert rejected.num_rows == number - selected.num_rows
    more = ["k", "none"] if number else []
    assert selected.column_names == [*SELECTED_SCHEMA.names, *more]
    assert rejected.column_names == [*REJECTED_SCHEMA.names, *more]
    assert selected.features["messages"] == rejected.features["messages"]


def test_counts_add_up(tmp_path: Path) -> None:
    rules = ["passed", "above_max_ifd", "below_top"]
    rows = [
        row(
            n,
            kind="original" if n % 2 else "both",
            decision=Decision(instruction_rule="a", response_rule="b", filter_rule=rules[n % 3]),
            reason=None if n % 3 == 0 else "out",
        )
        for n in range(2 * CHUNK + 500)
    ]
    sets = written(tmp_path, rows, lambda counts: json.dumps(counts))
    assert json.loads((sets.selected / "README.md").read_text()) == sets.counts
    kept = [r for r in rows if r.outcome.reason is None]
    assert sets.counts["selected"] == len(kept) == loaded(sets.selected).num_rows
    assert sets.counts["rejected"] == len(rows) - len(kept) == loaded(sets.rejected).num_rows
    assert sets.counts["by_candidate"] == Counter(r.outcome.final for r in kept)
    assert sets.counts["by_rule"] == Counter(r.outcome.decision.filter_rule for r in rows)
    assert loaded(sets.selected)["id"] == [r.candidate.id for r in kept]


def test_rows_of_a_set(tmp_path: Path) -> None:
    sets = written(tmp_path, [row(n % 3, {"n": n}) for n in range(CHUNK + 1)])
    assert [r["n"] for r in read_rows(sets.selected)] == list(range(CHUNK + 1))
    assert list(read_rows(sets.rejected)) == []
    assert list(read_rows(tmp_path / "none")) == []


# --- further columns -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extras", "type", "values"),
    [
        ([{"k": 1}, {"k": 2}], "Value('int64')", [1, 2]),
        ([{"k": 1.5}, {"k": None}], "Value('float64')", [1.5, None]),
        ([{"k": 1}, {"k": 0.5}], "Value('float64')", [1.0, 0.5]),
        ([{"k": True}, {}], "Value('bool')", [True, None]),
        ([{"k": None}, {"k": None}], "Value('null')", [None, None]),
        ([{"k": None}, {"k": "é\u2028"}], "Value('string')", [None, "é\u2028"]),
        ([{"k": 1}, {"k": "a"}], "Value('string')", ["1", "a"]),
        ([{"k": True}, {"k": 1}], "Value('string')", ["true", "1"]),
        ([{"k": [1]}, {"k": {"a": "é"}}], "Value('string')", ["[1]", '{"a": "é"}']),
        ([{"k": [1, "a"]}], "Value('string')", ['[1, "a"]']),
        ([{"k": [1]}, {"k": []}], "List(Value('int64'))", [[1], []]),
        ([{"k": []}], "List(Value('null'))", [[]]),
        ([{"k": {}}], "{}", [{}]),
        (
            [{"k": {"a": 1}}, {"k": {"b": [0.5]}}],
            "{'a': Value('int64'), 'b': List(Value('float64'))}",
            [{"a": 1, "b": None}, {"a": None, "b": [0.5]}],
        ),
        ([{"k": {"_type": "doc"}}], "{'_type': Value('string')}", [{"_type": "doc"}]),
        ([{"k": 2**63}, {"k": -1}], "Value('string')", ["9223372036854775808", "-1"]),
        ([{"k": [2**63]}], "Value('string')", ["[9223372036854775808]"]),
        ([{"k": 10**30}], "Value('string')", [str(10**30)]),
        ([{"k": 2**53 + 1}, {"k": 0.5}], "Value('string')", ["9007199254740993", "0.5"]),
    ],
)
def test_further_columns_keep_their_types(
    tmp_path: Path, extras: list[dict[str, Any]], type: str, values: list[Any]
) -> None:
    assert carried(tmp_path, *extras) == ({"k": type}, values)


@pytest.mark.parametrize(
    ("first", "second", "type", "values"),
    [
        (1, 0.5, "Value('float64')", (1.0, 0.5)),
        (0.5, 1, "Value('float64')", (0.5, 1.0)),
        (1, "a", "Value('string')", ("1", "a")),
        ("a", {"b": 1}, "Value('string')", ("a", '{"b": 1}')),
        (None, 3, "Value('int64')", (None, 3)),
        (True, 1, "Value('string')", ("true", "1")),
        ([], [{"a": 1}], "List({'a': Value('int64')})", ([], [{"a": 1}])),
        ({"a": 1}, {"b": "x"}, None, ({"a": 1, "b": None}, {"a": None, "b": "x"})),
        ({"a": 1}, {"a": "x"}, "Value('string')", ('{"a": 1}', '{"a": "x"}')),
        (2**63, -1, "Value('string')", ("9223372036854775808", "-1")),
        (2**53 + 1, 0.5, "Value('string')", ("9007199254740993", "0.5")),
        (0.5, 2**53 + 1, "Value('string')", ("0.5", "9007199254740993")),
        ({"a": 2**53 + 1}, {"a": 0.5}, None, ('{"a": 9007199254740993}', '{"a": 0.5}')),
        (2**53 + 1, 1, "Value('int64')", (2**53 + 1, 1)),
    ],
)
def test_types_agree_over_a_long_set(
    tmp_path: Path, first: Any, second: Any, type: str | None, values: tuple[Any, Any]
) -> None:
    types, found = carried(tmp_path, *far_apart({"k": first}, {"k": second}))
    assert (found[0], found[-1]) == values
    assert len(found) == CHUNK + 1 and not any(found[1:-1])
    if type is not None:
        assert types == {"k": type}


def test_towers_of_lists_are_text(tmp_path: Path) -> None:
    for depth in (20, 60, 500):
        tower = json.loads("[" * depth + "1" + "]" * depth)
        _, [found] = carried(tmp_path, {"k": tower})
        assert (json.loads(found) if isinstance(found, str) else found) == tower


def test_columns_that_are_called_like_ours(tmp_path: Path) -> None:
    extra = {"ifd": 7, "messages": ["m"], "reason": "r", "decision": "d", "id_": 1}
    sets = written(tmp_path, [row("a", extra), row("b", extra, reason="out")])
    for folder, reason in ((sets.selected, None), (sets.rejected, "out")):
        [found] = loaded(folder).to_list()
        assert (found["ifd"], found["decision"]["ifd_original"]) == (0.25, 0.5)
        assert found.get("reason") == reason
        further = {name: found[name] for name in found if name not in REJECTED_SCHEMA.names}
        assert further == {
            "source_ifd": 7,
            "source_messages": ["m"],
            "source_reason": "r",
            "source_decision": "d",
            "id_": 1,
        }


def test_what_was_selected_twice_before_loses_nothing(tmp_path: Path) -> None:
    for extra in ({"ifd": 2, "source_ifd": 1}, {"source_ifd": 1, "ifd": 2}):
        types, _ = carried(tmp_path, extra)
        [found] = loaded(tmp_path / "run" / "selected" / "student").to_list()
        assert set(types) == {"source_ifd", "source_source_ifd"}
        assert (found["source_ifd"], found["source_source_ifd"]) == (1, 2)


def test_odd_column_names(tmp_path: Path) -> None:
    extra = {"": 1, "a.b": 2, "a": {"b": 3}, "A": 4, "_type": "t", "x/y": 5, "é \u2028": 6}
    [found] = loaded(written(tmp_path, [row("a", extra)]).selected).to_list()
    assert {name: found[name] for name in extra} == extra


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**66), 2**66),
    st.integers(-2, 2),
    st.floats(allow_nan=False),
    st.text("aé\u2028", max_size=2),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["k", "l", "ifd", "source_ifd"]), JSON, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_json_says_is_carried(tmp_path: Path, extras: list[dict[str, Any]]) -> None:
    sets = written(tmp_path, [row(n, extra) for n, extra in enumerate(extras)])
    found = datasets.load_from_disk(str(sets.selected)).to_list()
    for extra, loaded_row in zip(extras, found, strict=True):
        renamed = "source_source_ifd" if "source_ifd" in extra else "source_ifd"
        for name, value in extra.items():
            same(value, loaded_row[renamed if name == "ifd" else name])


def same(given: Any, found: Any) -> None:
    """Equal but for nulls in structs, integers as floats, and what is text now."""
    if isinstance(given, dict) and isinstance(found, dict):
        for name in found:
            same(given.get(name), found[name])
    elif isinstance(given, list) and isinstance(found, list):
        for one, other in zip(given, found, strict=True):
            same(one, other)
    elif isinstance(found, str) and not isinstance(given, str):
        assert json.loads(found) == given
    else:
        assert found == (float(given) if isinstance(found, float) else given)


# --- writing again ---------------------------------------------------------------------------


def test_writing_again_replaces_the_folders(tmp_path: Path) -> None:
    sets = written(tmp_path, [row("a", {"old": 1}), row("b", reason="out")])
    (sets.selected / "data-00007-of-00009.arrow").write_text("an old shard")
    before = datasets.load_from_disk(str(sets.selected))
    written(tmp_path, [row("c", {"new": 1})])
    assert loaded(sets.selected)["id"] == ["c"]
    assert loaded(sets.selected).column_names == [*SELECTED_SCHEMA.names, "new"]
    assert loaded(sets.rejected).num_rows == 0
    assert before["id"] == ["a"]  # who has it open still reads the old one


def test_what_a_crash_left_is_cleaned(tmp_path: Path) -> None:
    sets = written(tmp_path, [row("a")])
    for folder in (sets.selected, sets.rejected):
        (folder.parent / f".{folder.name}.new").mkdir()
        (folder.parent / f".{folder.name}.new" / "half.arrow").write_text("half")
        folder.rename(folder.parent / f".{folder.name}.old")
    written(tmp_path, [row("b"), row("c", reason="out")])
    for folder, id in ((sets.selected, "b"), (sets.rejected, "c")):
        assert [p.name for p in folder.parent.iterdir()] == [folder.name]
        assert datasets.load_from_disk(str(folder))["id"] == [id]
        assert all(not p.name.startswith(".") for p in folder.iterdir())


def test_a_damaged_set_is_told(tmp_path: Path) -> None:
    sets = written(tmp_path, [row(n) for n in range(40)])
    (path,) = sets.selected.glob("*.arrow")
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CurateError, match=r"data-00000-of-00001.arrow is damaged .*state.json"):
            list(read_rows(sets.selected))
    with pytest.raises(CurateError, match="is damaged"):
        open_source(str(sets.selected))
    path.unlink()
    with pytest.raises(CurateError, match="is damaged"):
        list(read_rows(sets.selected))


def test_a_large_set_is_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(n, {"n": n}) for n in range(2500)]
    one = written(tmp_path / "one", rows)
    monkeypatch.setattr(arrow_set, "FILE_BYTES", 1)
    several = written(tmp_path / "several", rows)
    names = [f"data-0000{n}-of-00003.arrow" for n in range(3)]
    assert sorted(path.name for path in several.selected.glob("*.arrow")) == names
    assert loaded(several.selected).to_list() == loaded(one.selected).to_list()
    assert list(read_rows(several.selected)) == list(read_rows(one.selected))
    again = written(tmp_path / "again", rows)
    states = [
        json.loads((sets.selected / "state.json").read_text())["_fingerprint"]
        for sets in (one, several, again)
    ]
    assert states[0] != states[1] == states[2]  # a cache goes by it
