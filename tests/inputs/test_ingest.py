"""Intake: columns, turns, ids, duplicates; every row is a record or counted with a reason."""

import datetime
import decimal
import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curate.pipeline.config import InputConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.candidates import candidate_groups, holds_candidates
from curate.pipeline.inputs.columns.texts import content_id
from curate.pipeline.inputs.examples import extra_json, read_examples
from curate.pipeline.inputs.ingest import Intake
from curate.pipeline.inputs.readers import RawRow, Row, Source, Unreadable, open_source
from curate.pipeline.records import CANDIDATES, Candidate, Example

Values = dict[str, Any]
PAIR: Values = {"instruction": "Add.", "output": "3"}


USUAL = InputConfig(data="data")


def source(rows: list[Any]) -> Source:
    """A data set in memory; a text in place of a row is why it cannot be read."""
    raw: list[RawRow] = [
        Unreadable(f"data:{n}", row) if isinstance(row, str) else Row(f"data:{n}", row)
        for n, row in enumerate(rows, 1)
    ]
    return Source("data", "f", lambda: iter(raw))


def taken(
    *rows: Any, columns: InputConfig = USUAL, strict: bool = False, limit: int | None = None
) -> tuple[list[Example], Intake]:
    intake = Intake()
    config = replace(columns, strict=strict, limit=limit)
    found = list(read_examples(source(list(rows)), config, intake))
    assert intake.records == len(found)
    assert intake.rows == intake.records + len(intake.duplicates) + intake.num_rejected
    return found, intake


def only(*rows: Any, columns: InputConfig = USUAL) -> Example:
    [found], _ = taken(*rows, columns=columns)
    return found


def reasons(*rows: Any) -> list[str]:
    """Why rows are rejected, beside one that is not."""
    _, intake = taken(PAIR, *rows)
    assert intake.num_rejected == len(rows)
    return [row.reason for row in intake.rejected]


def refusal(*rows: Any, columns: InputConfig = USUAL, strict: bool = False) -> str:
    with pytest.raises(CurateError) as caught:
        taken(*rows, columns=columns, strict=strict)
    return str(caught.value)


# --- columns ---------------------------------------------------------------------------------


def test_the_usual_columns() -> None:
    found = only({"output": "3", "input": "1 2", "instruction": "Add.", "id": 7, "k": [1]})
    assert found == Example(id="7", instruction="Add.", input="1 2", output="3", extra={"k": [1]})
    assert only(PAIR).input == ""
    assert only({**PAIR, "input": None}).input == ""


def test_renamed_columns() -> None:
    columns = replace(
        USUAL, instruction_column="prompt", input_column="context", output_column="answer"
    )
    row = {"prompt": "Add.", "context": "1 2", "answer": "3", "instruction": "I", "output": "O"}
    found = only(row, columns=columns)
    assert (found.instruction, found.input, found.output) == ("Add.", "1 2", "3")
    assert found.extra == {"instruction": "I", "output": "O"}
    assert only(
        {"prompt": "Add.", "output": "3"}, columns=replace(USUAL, instruction_column="prompt")
    )


def test_missing_columns_are_named_with_those_that_exist() -> None:
    message = refusal({"question": "Add.", "output": "3", "n": 1})
    assert "'instruction'" in message and "'output'" not in message
    assert "question, output, n" in message
    for option in ("--instruction-column", "--input-column", "--output-column"):
        assert option in message
    assert "'prompt' nor 'output'" in refusal(
        {"a": 1}, columns=replace(USUAL, instruction_column="prompt")
    )
    assert "'context'" in refusal(PAIR, columns=replace(USUAL, input_column="context"))
    assert "its columns are none" in refusal({})
    chat = {"messages": [{"role": "user", "content": "x"}]}
    assert "'prompt'" in refusal(chat, columns=replace(USUAL, instruction_column="prompt"))


# --- turns -----------------------------------------------------------------------------------

USER, ANSWER, SYSTEM = (
    {"role": "user", "content": "Add."},
    {"role": "assistant", "content": "3"},
    {"role": "system", "content": "Be brief."},
)


def test_messages_and_conversations() -> None:
    found = only({"messages": [USER, ANSWER], "id": "a", "n": 1})
    assert found == Example(id="a", instruction="Add.", output="3", extra={"n": 1})
    assert only({"messages": [SYSTEM, USER, ANSWER]}).system == "Be brief."
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Add."},
        {"from": "gpt", "value": "3", "weight": None},
    ]
    found = only({"conversations": turns, "n": 1})
    assert (found.instruction, found.output, found.system) == ("Add.", "3", "Be brief.")
    assert found.extra == {"n": 1}
    with_system = only({"messages": [SYSTEM, USER, ANSWER]}).id
    empty_system = only({"messages": [{**SYSTEM, "content": ""}, USER, ANSWER]})
    assert empty_system.system is None
    assert empty_system.id == only(PAIR).id != with_system


def test_named_columns_come_before_turns() -> None:
    found = only({**PAIR, "messages": [USER]})
    assert found.instruction == "Add."
    assert found.extra == {"messages": [USER]}


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([USER, USER, ANSWER], "two user turns of 'messages'"),
        ([USER, ANSWER, ANSWER], "two answers of 'messages'"),
        ([ANSWER, USER], "'messages' begins with an answer"),
        ([ANSWER, USER, ANSWER], "'messages' begins with an answer"),
        ([USER], "the last turn of 'messages' has no answer"),
        ([USER, ANSWER, USER], "the last turn of 'messages' has no answer"),
        ([ANSWER], "'messages' begins with an answer"),
        ([], "'messages' has no turns"),
        ([SYSTEM], "'messages' has no turns"),
        ([USER, SYSTEM, ANSWER], "a system turn of 'messages' is not the first"),
        ([USER, ANSWER, SYSTEM], "a system turn of 'messages' is not the first"),
        ([{**USER, "content": " \n"}, ANSWER], "a turn of 'messages' is empty"),
        ([USER, {**ANSWER, "content": ""}, USER, ANSWER], "a turn of 'messages' is empty"),
        ([USER, {**ANSWER, "tool_calls": [{}]}], "a turn of 'messages' calls a tool"),
        ([{**USER, "content": [{"type": "image"}]}, ANSWER], "a turn of 'messages' has no text"),
        ([{**USER, "content": []}, ANSWER], "a turn of 'messages' has no text"),
        ([SYSTEM, SYSTEM, USER, ANSWER], "a system turn of 'messages' is not the first"),
        ([{**USER, "role": "tool"}, ANSWER], "unknown role 'tool'"),
        ([{**USER, "role": ["user"]}, ANSWER], "unknown role ['user']"),
        ([{**USER, "role": None}, ANSWER], "unknown role None"),
        ([{"content": "x"}, ANSWER], "unknown role None"),
        ([{**USER, "content": None}, ANSWER], "a turn of 'messages' has no text"),
        ([{**USER, "content": [{"type": "text"}]}, ANSWER], "a turn of 'messages' has no text"),
        ([{**USER, "content": 3}, ANSWER], "a turn of 'messages' has no text"),
        ([{"role": "user"}, ANSWER], "a turn of 'messages' has no text"),
        ([USER, "x"], "'messages' is not a list of turns"),
        ("x", "'messages' is not a list of turns"),
        ({"0": USER}, "'messages' is not a list of turns"),
        (None, "'messages' is not a list of turns"),
    ],
)
def test_turns_that_are_no_pair(turns: Any, reason: str) -> None:
    found, intake = taken({"messages": [USER, ANSWER]}, {"messages": turns})
    assert len(found) == 1
    [rejected] = intake.rejected
    assert rejected.reason.startswith(reason)
    assert rejected.place == "data:2"


def test_turns_as_public_sets_have_them() -> None:
    """Null keys of other sources, texts in parts, other names of a role, no system turn."""
    nulls = [
        {"from": "human", "value": "Add.", "role": None, "content": None, "weight": None},
        {"from": "gpt", "value": "3", "role": None, "content": None, "weight": None},
    ]
    found = only({"conversations": nulls, "messages": None})
    assert (found.instruction, found.output, found.system) == ("Add.", "3", None)
    assert found.extra == {"messages": None}
    parts = [{**USER, "content": [{"type": "text", "text": "Ad"}, {"type": "text", "text": "d."}]}]
    assert only({"messages": [*parts, ANSWER]}).instruction == "Add."
    assert only({"messages": [{**SYSTEM, "content": None}, USER, ANSWER]}).system is None
    assert only({"messages": [{**SYSTEM, "role": "developer"}, USER, ANSWER]}).system == "Be brief."


@pytest.mark.parametrize("more", [{"reasoning_content": "1 + 2"}, {"weight": 0}])
def test_further_fields_of_turns_are_kept(more: Values) -> None:
    turns = [USER, {**ANSWER, **more}]
    found = only({"messages": turns, "n": 1})
    assert (found.output, found.extra) == ("3", {"messages": turns, "n": 1})


# --- context ---------------------------------------------------------------------------------


def test_a_system_column_is_the_system_turn() -> None:
    found = only({**PAIR, "system": "Be brief.", "n": 1})
    assert (found.system, found.extra) == ("Be brief.", {"n": 1})
    assert found.id == only({"messages": [SYSTEM, USER, ANSWER]}).id
    nothing: tuple[Any, ...] = ("", None, math.nan)
    for none in nothing:
        assert only({**PAIR, "system": none}).system is None
    assert only({**PAIR, "system": "", "messages": [SYSTEM, USER, ANSWER]}).system == "Be brief."
    assert reasons({**PAIR, "system": ["x"]}) == ["'system' is not text but list"]
    named = only({**PAIR, "system": "Add."}, columns=replace(USUAL, instruction_column="system"))
    assert (named.instruction, named.system) == ("Add.", None)


def test_tools_are_in_no_prompt() -> None:
    nothing: tuple[Any, ...] = (None, [], "", "[]", math.nan)
    for none in nothing:
        found = only({**PAIR, "history": none, "tools": none})
        assert (found.instruction, found.history) == ("Add.", ())
    tools = {"tools": '[{"name": "f"}]'}
    assert reasons({**PAIR, **tools}) == ["it has 'tools', which no prompt here holds"]
    chat = {"messages": [USER, ANSWER], **tools}
    _, intake = taken({"messages": [USER, ANSWER]}, chat)
    assert [row.reason for row in intake.rejected] == ["it has 'tools', which no prompt here holds"]


# --- conversations ---------------------------------------------------------------------------

EARLIER = ({"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."})


def test_the_last_exchange_of_a_conversation_is_the_record() -> None:
    found = only({"messages": [SYSTEM, *EARLIER, USER, ANSWER]})
    assert (found.instruction, found.output, found.system) == ("Add.", "3", "Be brief.")
    assert found.history == EARLIER
    alone = only({"messages": [SYSTEM, USER, ANSWER]})
    assert alone.history == () and alone.id != found.id


def test_a_history_of_pairs() -> None:
    found = only({**PAIR, "history": [["Hi.", "Hello."]]})
    assert found.history == EARLIER
    assert found.id == only({"messages": [*EARLIER, USER, ANSWER]}).id
    assert (
        reasons({**PAIR, "history": [["a"]]}, {**PAIR, "history": [["a", " "]]})
        == ["'history' is not a list of pairs of texts"] * 2
    )


def test_prompt_and_completion() -> None:
    assert only({"prompt": "Add.", "completion": "3"}).id == only(PAIR).id
    found = only({"prompt": [SYSTEM, *EARLIER, USER], "completion": [ANSWER], "n": 1})
    assert (found.system, found.history, found.output) == ("Be brief.", EARLIER, "3")
    assert found.extra == {"n": 1}


def test_a_selected_rows_messages_are_its_history() -> None:
    found = only({**PAIR, "messages": [SYSTEM, *EARLIER, USER, ANSWER]})
    assert (found.system, found.history) == ("Be brief.", EARLIER)
    other = only({**PAIR, "messages": [*EARLIER, USER, {**ANSWER, "content": "Four."}]})
    assert other.history == () and "messages" in other.extra  # another conversation than the row's


def test_every_exchange_is_a_record_with_what_came_before() -> None:
    rows = [{"id": "a", "messages": [*EARLIER, USER, ANSWER]}, {"messages": [USER, ANSWER]}]
    found, intake = taken(*rows, columns=replace(USUAL, turns="all"))
    assert [one.id for one in found[:2]] == ["a#1", "a#2"] and found[2].id.endswith("#1")
    assert [one.history for one in found] == [(), EARLIER, ()]
    assert [one.input_row for one in found] == [0, 0, 1]
    assert intake.rows == 3


# --- texts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_missing_values_are_missing(missing: float) -> None:
    assert reasons({**PAIR, "output": missing}, {**PAIR, "instruction": missing}) == [
        "no 'output'",
        "no 'instruction'",
    ]
    found = only({**PAIR, "input": missing, "id": missing})
    assert (found.input, found.id) == ("", only(PAIR).id)


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet", "csv"])
def test_missing_values_of_files(tmp_path: Path, form: str) -> None:
    """As pandas leaves them."""
    path = tmp_path / f"a.{form}"
    rows = [
        {"instruction": "Name a bird.", "input": math.nan, "output": "A robin."},
        {"instruction": "Name a fish.", "input": math.nan, "output": "A trout."},
    ]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "csv":
        path.write_text("instruction,input,output\nName a bird.,,A robin.\nName a fish.,,A trout.")
    else:
        rows.append({"instruction": "Name a number.", "output": math.inf})
        text = json.dumps(rows).replace("Infinity", "1e400")
        lines = "\n".join(json.dumps(row).replace("Infinity", "1e400") for row in rows)
        path.write_text(text if form == "json" else lines, "utf-8")
    intake = Intake()
    found = list(read_examples(open_source(str(path)), USUAL, intake))
    assert [(e.input, e.output) for e in found] == [("", "A robin."), ("", "A trout.")]
    assert [row.reason for row in intake.rejected] == ["no 'output'"] * (len(rows) - 2)


def test_what_is_nested_too_deep_is_no_row() -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    assert reasons({**PAIR, "k": deep}) == ["nested deeper than 64 levels"]
    flat = {"k": [[[]]] * 1000, "l": "[" * 1000}
    assert only({**PAIR, **flat}).extra == flat
    [[found]], _ = groups(version("a", extra="[" * 5000))
    assert json.loads(found.extra or "") == {"extra": "[" * 5000}


def test_nulls_numbers_and_other_kinds() -> None:
    assert reasons({**PAIR, "output": None}, {"instruction": "x"}, {}) == [
        "no 'output'",
        "no 'output'",
        "no 'instruction'",
    ]
    found = only({"instruction": 3, "input": 0, "output": 4.5})
    assert (found.instruction, found.input, found.output) == ("3", "0", "4.5")
    assert reasons({**PAIR, "output": ["3"]}, {**PAIR, "input": {}}, {**PAIR, "output": True}) == [
        "'output' is not text but list",
        "'input' is not text but dict",
        "'output' is not text but bool",
    ]


@pytest.mark.parametrize(
    ("text", "whole", "replaced"),
    [
        ("\ud800", "\ufffd", 1),
        ("a\ud83dbc", "a\ufffdbc", 1),
        ("\ud83db", "\ufffdb", 1),
        ("a\udc00", "a\ufffd", 1),
        ("\ude00\ud83d", "\ufffd\ufffd", 1),
        ("\ud83d\ud83d\ude00", "\ufffd\U0001f600", 1),
        ("\ud83d\ude00!", "\U0001f600!", 1),
        ("\ud83d\U0001f600", "\ufffd\U0001f600", 1),
        ("\U0001f600 é \x00", "\U0001f600 é \x00", 0),
    ],
)
def test_lone_surrogates(text: str, whole: str, replaced: int) -> None:
    [found], intake = taken({"instruction": text, "input": "x", "output": "y"})
    assert found.instruction == whole
    assert intake.surrogates == replaced
    assert found.id == only({"instruction": whole, "input": "x", "output": "y"}).id
    [found], intake = taken({"messages": [USER, {**ANSWER, "content": text}]})
    assert (found.output, intake.surrogates) == (whole, replaced)
    [found], intake = taken({**PAIR, "n": {"deep": [text]}, text: 1})
    assert found.extra == {"n": {"deep": [whole]}, whole: 1}
    assert intake.surrogates == replaced
    assert json.loads((extra_json(found) or "").encode()) == found.extra
    assert only({**PAIR, "id": text}).id == whole


def test_a_properly_escaped_pair_is_one_character() -> None:
    [found], intake = taken(json.loads('{"instruction": "\\ud83d\\ude00", "output": "y"}'))
    assert (found.instruction, intake.surrogates) == ("\U0001f600", 0)


# --- ids and duplicates ----------------------------------------------------------------------


def test_content_ids_are_of_the_texts_alone() -> None:
    # As `printf 4:Add.0:1:3 | sha256sum` has it: ids must stay the same from release to release.
    assert only(PAIR).id == content_id(PAIR) == "b173dde82e50b25af5a4c32c"
    rows = [{"instruction": f"i{n}", "output": f"o{n}", "k": n} for n in range(20)]
    ids = {found.instruction: found.id for found in taken(*rows)[0]}
    random.Random(0).shuffle(rows)
    turned = [
        {"new": 1, "output": row["output"], "instruction": row["instruction"]} for row in rows
    ]
    assert {found.instruction: found.id for found in taken(*turned)[0]} == ids
    assert len(set(ids.values())) == 20
    assert only({**PAIR, "id": None}).id == only({**PAIR, "id": ""}).id == only(PAIR).id


def test_content_ids_tell_the_fields_apart() -> None:
    parts = [("ab", "", "c"), ("a", "b", "c"), ("a", "", "bc"), ("a1:b", "", "c"), ("", "ab", "c")]
    found, _ = taken(*({"instruction": i, "input": n, "output": o} for i, n, o in parts))
    assert len({example.id for example in found}) == len(parts)


def test_given_ids_are_kept_as_text() -> None:
    found, _ = taken(
        *({**PAIR, "output": str(n), "id": id} for n, id in enumerate([7, "x", 0, 1.5]))
    )
    assert [example.id for example in found] == ["7", "x", "0", "1.5"]


def test_exact_duplicates_are_counted() -> None:
    found, intake = taken(PAIR, {**PAIR, "k": 1}, {**PAIR, "input": ""}, {**PAIR, "input": " "})
    assert (len(found), len(intake.duplicates)) == (2, 2)
    found, intake = taken({**PAIR, "id": 1}, {**PAIR, "id": "1"}, {**PAIR, "id": 2})
    assert (len(found), len(intake.duplicates)) == (2, 1)


def test_one_id_of_two_contents() -> None:
    message = refusal({**PAIR, "id": 1}, PAIR, {**PAIR, "id": "1", "output": "4"})
    assert message == "data:3: the id '1' stands for two different contents"
    assert "two different" in refusal({**PAIR, "id": 1}, {**PAIR, "id": 1, "input": "x"})
    chat = [{"id": 1, "messages": [USER, ANSWER]}, {"id": 1, "messages": [SYSTEM, USER, ANSWER]}]
    assert "two different" in refusal(*chat)


# --- counts ----------------------------------------------------------------------------------


def test_counts_as_the_manifest_has_them() -> None:
    _, intake = taken(PAIR, "torn", PAIR, {}, {**PAIR, "output": "\ud800"})
    assert intake.counts() == {
        "rows": 5,
        "records": 2,
        "duplicates": 1,
        "rejected": 2,
        "surrogates_replaced": 1,
    }
    assert [(row.place, row.reason) for row in intake.rejected] == [
        ("data:2", "torn"),
        ("data:4", "no 'instruction'"),
    ]


def test_limit_counts_records_not_rows() -> None:
    rows = ["torn", PAIR, PAIR, {}, *({**PAIR, "output": f"o{n}"} for n in range(50))]
    for limit in (1, 2, 10):
        found, intake = taken(*rows, limit=limit)
        assert len(found) == limit
        assert intake.rows == (2 if limit == 1 else limit + 3)
    assert len(taken(*rows, limit=1000)[0]) == 51


def test_only_a_thousand_rejections_are_kept() -> None:
    _, intake = taken(PAIR, *(["torn"] * 1500))
    assert (len(intake.rejected), intake.num_rejected) == (1000, 1500)


def test_strict_refuses_the_first_unusable_row() -> None:
    assert refusal(PAIR, {"instruction": "x"}, strict=True) == "data:2: no 'output' (--strict)"
    assert refusal("torn", PAIR, strict=True) == "data:1: torn (--strict)"
    assert len(taken(PAIR, PAIR, strict=True)[0]) == 1


def test_nothing_to_take() -> None:
    assert refusal() == "data is empty: it has no rows"
    message = refusal("torn", "rent")
    assert message == "none of the 2 rows of data is usable; the first, data:1: torn"
    assert "data:1: no 'output'" in refusal({**PAIR, "output": None})


TEXTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.floats(),
    st.text("ab\ud83d\ude00\x00", max_size=2),
    st.lists(st.text("a", max_size=1), max_size=1),
)
ROWS = st.one_of(
    st.just("torn"),
    st.fixed_dictionaries({}, optional={"instruction": TEXTS, "output": TEXTS, "input": TEXTS}),
    st.fixed_dictionaries(
        {"instruction": st.text("ab", max_size=2), "output": st.text("ab", max_size=1)},
        optional={"more": TEXTS, "input": TEXTS},
    ),
)


ANY = st.recursive(
    TEXTS | st.integers() | st.just(10**400) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)
ROLES = st.sampled_from(["user", "assistant", "system", "developer", "human", "gpt", None])
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES | ANY, "content": st.text(max_size=2) | ANY},
        optional={"from": ROLES | ANY, "value": ANY, "weight": ANY, "tool_calls": ANY},
    ),
    max_size=4,
)
CONVERSATIONS = st.fixed_dictionaries(
    {},
    optional={name: TURNS | ANY for name in ("messages", "conversations", "prompt", "completion")},
)
COLUMNS = st.fixed_dictionaries(
    {"instruction": TEXTS, "output": TEXTS},
    optional={name: ANY for name in ("input", "system", "history", "tools", "more")},
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CONVERSATIONS, max_size=4) | st.lists(COLUMNS, max_size=4), st.booleans())
def test_any_value_in_any_field_is_a_row_or_a_counted_rejection(
    rows: list[Any], every_exchange: bool
) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    first = {"instruction": "q", "output": "a", "messages": turns, "prompt": "q", "completion": "a"}
    keys = set().union(*rows) or {"instruction", "output"}
    fitting = {name: value for name, value in first.items() if name in keys}
    columns = replace(USUAL, turns="all" if every_exchange else "last")
    try:
        found, _ = taken(fitting, *rows, columns=columns)
    except CurateError as error:  # no row has the columns, or none is usable
        assert "\n" not in str(error)
        return
    for one in found:
        texts = [one.id, one.instruction, one.input, one.output, one.system or ""]
        texts += [turn["content"] for turn in one.history]
        assert all(text.encode("utf-8") is not None for text in texts)
        assert json.loads(extra_json(one) or "{}") is not None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ROWS, max_size=12), st.none() | st.integers(1, 5))
@example(rows=[{"instruction": "\ud83d", "output": "a"}] * 2, limit=None)
def test_no_record_is_lost_or_invented(rows: list[Any], limit: int | None) -> None:
    found, intake = taken({"instruction": "first", "output": "row"}, *rows, limit=limit)
    contents = {(e.instruction, e.input, e.output) for e in found}
    assert len(contents) == len({e.id for e in found}) == len(found)

    def text(value: Any) -> str | None:
        usable = isinstance(value, str | int | float) and not isinstance(value, bool)
        if not usable or value in (math.inf, -math.inf) or value != value:
            return None
        return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    expected: Counter[tuple[str, str, str]] = Counter()
    for row in [{"instruction": "first", "output": "row"}, *rows]:
        if limit is not None and len(expected) >= limit:
            break
        values = row if isinstance(row, dict) else {}
        blank = values.get("input") is None or (
            isinstance(values["input"], float) and not math.isfinite(values["input"])
        )
        fields = [text(values.get("instruction")), text(values.get("output"))]
        middle = "" if blank else text(values.get("input"))
        if None not in (*fields, middle):
            expected[(str(fields[0]), str(middle), str(fields[1]))] += 1
    assert contents == set(expected)
    if limit is None:
        assert intake.rows == len(rows) + 1
        assert len(intake.duplicates) == expected.total() - len(expected)


# --- candidates ------------------------------------------------------------------------------


def groups(*rows: Any, strict: bool = False) -> tuple[list[list[Candidate]], Intake]:
    intake = Intake()
    found = list(candidate_groups(source(list(rows)), intake, strict=strict))
    assert intake.records == sum(map(len, found))
    assert intake.rows == intake.records + len(intake.duplicates) + intake.num_rejected
    return found, intake


def version(id: Any, kind: Any = "original", **more: Any) -> Values:
    return {"id": id, "candidate": kind, "instruction": "Add.", "output": "3", **more}


def candidate_reason(row: Any) -> str:
    _, intake = groups(version("good"), row)
    [rejected] = intake.rejected
    return rejected.reason


def test_rows_of_an_id_are_grouped_wherever_they_stand() -> None:
    rows = [version(n, kind, output=f"{n} {kind}") for n in range(30) for kind in CANDIDATES]
    random.Random(1).shuffle(rows)
    found, intake = groups(*rows)
    order = list(dict.fromkeys(str(row["id"]) for row in rows))
    assert [group[0].id for group in found] == order
    for group in found:
        assert [c.candidate for c in group] == list(CANDIDATES)
        assert [c.output for c in group] == [f"{group[0].id} {kind}" for kind in CANDIDATES]
    assert intake.records == 120


def test_status_and_input_may_be_missing() -> None:
    [[found]], _ = groups(version("a"))
    expected = {"id": "a", "candidate": "original", "instruction": "Add.", "output": "3"}
    assert found == Candidate(input="", **expected)  # type: ignore[arg-type]
    [[failed]], _ = groups(version("a", "both", status="failed", reason="no reply", output=None))
    assert (failed.status, failed.reason, failed.output) == ("failed", "no reply", None)
    [[same]], _ = groups(version("a", "both", status="unchanged", input=None))
    assert (same.status, same.input) == ("unchanged", "")


def test_candidates_that_are_none() -> None:
    assert candidate_reason(version("a", "better")).startswith("unknown candidate 'better'")
    assert candidate_reason(version("a", None)).startswith("unknown candidate None")
    assert candidate_reason(version("a", ["both"])).startswith("unknown candidate ['both']")
    assert candidate_reason(version("a", status="fine")) == "unknown status 'fine'"
    assert candidate_reason(version("a", status=["ok"])) == "unknown status ['ok']"
    assert candidate_reason(version(None)) == "a candidate without an id"
    assert candidate_reason(version("")) == "a candidate without an id"
    assert candidate_reason(version("a", output=None)) == "no 'output'"
    assert candidate_reason(version("a", output=["3"])) == "'output' is not text but list"
    assert candidate_reason(version("a", system=["x"])) == "'system' is not text but list"
    assert candidate_reason(version("a", reason={})) == "'reason' is not text but dict"
    assert candidate_reason("torn") == "torn"


def test_candidates_come_once() -> None:
    found, intake = groups(
        version("a"), version("a", "both"), version("a"), version(7), version("7")
    )
    assert ([len(group) for group in found], len(intake.duplicates)) == ([2, 1], 2)
    for other in ({"output": "4"}, {"status": "unchanged"}, {"extra column": 1}):
        with pytest.raises(CurateError) as caught:
            groups(version("a"), version("b"), version("a", **other))
        message = str(caught.value)
        assert (
            message == "data:3: the candidate 'original' of 'a' comes with two different contents"
        )


def test_extras_are_the_original_s() -> None:
    [group], _ = groups(
        version("a", "both", source="of the reflection"),
        version("a", source="é", n=[1], none=None, reply_key="k", teacher="t", status="ok"),
    )
    original, both = group
    assert json.loads(original.extra or "") == {"source": "é", "n": [1], "none": None}
    assert (original.reply_key, original.teacher, both.extra) == ("k", "t", None)
    [[plain]], _ = groups(version("a"))
    assert plain.extra is None


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        ('{"n": 1}', {"n": 1, "k": 2}),  # as a run's own shards have it
        ("text", {"extra": "text", "k": 2}),
        ("[1]", {"extra": "[1]", "k": 2}),
        ({"n": 1}, {"extra": {"n": 1}, "k": 2}),
        (None, {"k": 2}),
    ],
)
def test_a_column_called_extra(given: Any, carried: Values) -> None:
    [[found]], _ = groups(version("a", extra=given, k=2))
    assert json.loads(found.extra or "") == carried


def test_candidates_hold_whole_characters_and_text_only() -> None:
    [[found]], intake = groups(
        version(
            "\ud800", output="a\ud800b", system="\udc00", reason=5, teacher="\ud800", k="\ud800"
        )
    )
    assert (found.id, found.output, found.system) == ("\ufffd", "a\ufffdb", "\ufffd")
    assert (found.reason, found.teacher, found.extra) == ("5", "\ufffd", '{"k": "\ufffd"}')
    assert intake.surrogates == 1


def test_candidate_counts_strict_and_empty() -> None:
    _, intake = groups("torn", version("a"), version("a"), version("b", "x"), version("b"))
    assert intake.counts() == {
        "rows": 5,
        "records": 2,
        "duplicates": 1,
        "rejected": 2,
        "surrogates_replaced": 0,
    }
    with pytest.raises(CurateError, match=r"data:2: unknown candidate 'x'.*--strict"):
        groups(version("a"), version("b", "x"), strict=True)
    with pytest.raises(CurateError, match="data is empty"):
        groups()
    with pytest.raises(CurateError, match="none of the 1 rows of data is usable"):
        groups(version("a", "x"))


def test_groups_may_be_left_half_way() -> None:
    found = candidate_groups(source([version(n) for n in range(9)]), Intake())
    assert next(found)[0].id == "0"
    found.close()  # type: ignore[attr-defined]


def test_what_holds_candidates() -> None:
    assert holds_candidates(source(["torn", version("a")]))
    assert not holds_candidates(source(["torn", PAIR]))
    assert not holds_candidates(source(["torn"]))
    assert not holds_candidates(source([]))


def test_values_of_parquet_become_json(tmp_path: Path) -> None:
    """Times, bytes and decimals are carried as text."""
    row = {
        **PAIR,
        "when": datetime.datetime(2020, 1, 2, 3),
        "price": decimal.Decimal("1.50"),
        "raw": b"\xff",
        "list": [datetime.date(2020, 1, 2)],
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    [found] = read_examples(open_source(str(tmp_path / "a.parquet")), USUAL, Intake())
    assert json.loads(extra_json(found) or "") == {
        "when": "2020-01-02 03:00:00",
        "price": "1.50",
        "raw": "b'\\xff'",
        "list": ["2020-01-02"],
    }


def test_the_history_of_candidates_alternates() -> None:
    given = {"id": "a", "candidate": "original", **PAIR}
    turns = [list(EARLIER), [["Hi.", "Hello."]], None, math.nan, "[]", []]
    broken = [list(EARLIER[:1]), list(EARLIER[::-1]), [SYSTEM, *EARLIER], "x", [{"role": "user"}]]
    rows = [{**given, "id": str(n), "history": one} for n, one in enumerate([*turns, *broken])]
    intake = Intake()
    found = [group[0] for group in candidate_groups(source(rows), intake)]
    assert [one.history for one in found] == [EARLIER, EARLIER, (), (), (), ()]
    assert intake.num_rejected == len(broken)
