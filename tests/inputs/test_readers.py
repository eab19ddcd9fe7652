"""The readers: every format, whole, damaged and cut, and where they say it is."""

import bz2
import csv
import gzip
import json
import lzma
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetInfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.readers import Row, Unreadable, open_source
from curate.pipeline.inputs.readers.files import count_rows
from curate.pipeline.inputs.readers.hub_sets import licence_of

MIB = 1 << 20
RECORDS: list[dict[str, Any]] = [
    {"instruction": f"Say {n} é", "input": "", "output": "x" * n} for n in range(7)
]


def rows(path: Path) -> list[Row | Unreadable]:
    return list(open_source(str(path)).rows())


def values(path: Path) -> list[dict[str, Any]]:
    found = rows(path)
    assert all(isinstance(row, Row) for row in found), found
    return [row.values for row in found if isinstance(row, Row)]


def places(path: Path) -> list[str]:
    return [row.place for row in rows(path)]


def put(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refusal(path: Path | str) -> str:
    """The one sentence that reading ends with."""
    with pytest.raises(CurateError) as caught:
        list(open_source(str(path)).rows())
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- JSON arrays -----------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize("ascii", [True, False])
def test_json_array_of_awkward_values(tmp_path: Path, indent: int | None, ascii: bool) -> None:
    awkward = [
        {"text": '}{][,"\\ \u2028 \u0085 \U0001f600 \t\r\n', "nested": {"a": [{"b": []}, [[]]]}},
        {},
        {"]": "[", '"': None, "n": [-1.5e-7, 0, True]},
    ]
    text = json.dumps(awkward, indent=indent, ensure_ascii=ascii)
    assert values(put(tmp_path / "a.json", text)) == awkward
    assert values(put(tmp_path / "b.json", "\ufeff \r\n" + text + "\r\n\n")) == awkward


def test_json_array_larger_than_a_chunk(tmp_path: Path) -> None:
    records = [{"n": n, "text": '{"é\\' * (n % 900)} for n in range(2000)]
    path = put(tmp_path / "a.json", json.dumps(records, ensure_ascii=False, indent=1))
    assert path.stat().st_size > 2 * MIB
    assert values(path) == records
    assert places(path)[:3] == ["a.json:2", "a.json:6", "a.json:10"]
    assert places(path)[-1] == f"a.json:{2 + 4 * 1999}"


def test_one_value_longer_than_a_chunk(tmp_path: Path) -> None:
    records = [{"text": "a" * (5 * MIB // 2)}, {"text": "b"}]
    assert values(put(tmp_path / "a.json", json.dumps(records))) == records


NUMBERS = ["12345", "1.5", "1e5", "-7", "1.25e-3", "true", "null"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_chunk_may_end_anywhere_in_a_value(tmp_path: Path, number: str) -> None:
    """The value's every character is once the last of the first chunk."""
    for cut in range(len(number) + 1):
        for head, tail in (('[{"n": ', "}, {}]"), ("[", ", {}]")):
            space = " " * (MIB - len(head) - cut)
            path = put(tmp_path / "a.json", head[0] + space + head[1:] + number + tail)
            first, second = rows(path)
            assert second == Row("a.json:1", {})
            if head == "[":
                assert isinstance(first, Unreadable) and first.reason.startswith("not an object")
            else:
                assert first == Row("a.json:1", {"n": json.loads(number)})


def test_a_chunk_may_end_anywhere_in_an_array(tmp_path: Path) -> None:
    text = '[{"a": "\\u00e9\\"é\U0001f600"}, {"b": [false]}\n, {"c": {}}]\n'
    for cut in range(0, len(text) + 1, 2):
        path = put(tmp_path / "a.json", " " * (MIB - cut) + text)
        assert values(path) == json.loads(text)


@pytest.mark.parametrize("text", ["[]", " [ ] ", "[\n]\n", "", " \n", "\ufeff[]"])
def test_empty_arrays_have_no_rows(tmp_path: Path, text: str) -> None:
    assert rows(put(tmp_path / "a.json", text)) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"a": 1},\n]', 2),
        ('[{"a": 1},\n{"b": 2},\n{"c"', 3),
        ('[{"a": 1},\n{"b": "cut', 2),
        ('[{"a": 1},\n{"b": 2}', 2),
        ('[{"a": 1},\n', 2),
        ("[", 1),
        ('\n\n[{"a": 1},\r\n\r\n{"b": }]', 5),
        ('[{"a": 1}\n{"b": 2}]', 2),
        ('[{"a": 1},,\n{"b": 2}]', 1),
        ('[,\n{"b": 2}]', 1),
        ('[{"a": 1}]\n[{"b": 2}]', 2),
        ('[{"a": 1}]\n\n]', 3),
        ('[{"a":\n\n"b\nc"}]', 3),
        ('[{"a": 1.\n}]', 1),
        ("[{'a': 1}]", 1),
        ('\n"text"', 2),
        ("17", 1),
        ('[\n{"a": ' + "9" * 5000 + "}]", 2),
        ('[\n{"a": ' + "[" * 100_000 + "}]", 2),
    ],
)
def test_a_malformed_array_names_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    message = refusal(put(tmp_path / "bad.json", text))
    assert f"{tmp_path}/bad.json, line {line}:" in message


def test_the_line_is_right_behind_the_first_chunk(tmp_path: Path) -> None:
    head = "[" + ",\n".join(json.dumps({"text": "x" * 1000}) for _ in range(2000))
    assert "line 2001:" in refusal(put(tmp_path / "a.json", head + ',\n{"b": 1 "c": 2}]'))
    assert "line 2001:" in refusal(put(tmp_path / "a.json", head + ",\n]"))
    assert "line 2000:" in refusal(put(tmp_path / "a.json", head))


def test_rows_before_the_damage_are_given(tmp_path: Path) -> None:
    found = open_source(str(put(tmp_path / "a.json", '[{"a": 1}, {"b": 2}, {"c'))).rows()
    assert [next(found), next(found)] == [Row("a.json:1", {"a": 1}), Row("a.json:1", {"b": 2})]
    with pytest.raises(CurateError):
        next(found)


def test_elements_that_are_no_objects(tmp_path: Path) -> None:
    found = rows(put(tmp_path / "a.json", '[{"a": 1}, [1], "x", null, 3.5, {"b": 2}]'))
    reasons = [row.reason.rpartition(" ")[2] for row in found if isinstance(row, Unreadable)]
    assert reasons == ["list", "str", "NoneType", "float"]
    assert len(found) == 6


def test_invalid_utf8_in_an_array_or_csv_names_the_byte(tmp_path: Path) -> None:
    for name, head in (
        ("a.json", b'[{"a": "'),
        ("b.csv", b"a\n"),
        ("c.csv.gz", b"\xef\xbb\xbfa\n"),
    ):
        for length in (10, 5000, 100_000, 2 * MIB):
            data = head + b"x\xc3\xa9" * (length // 3) + b"\xff"
            zipped = gzip.compress(data, 1) if name.endswith(".gz") else data
            message = refusal(put(tmp_path / name, zipped))
            assert message.endswith(f"{name} is not UTF-8 (byte {len(data) - 1})")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=3),
            st.recursive(
                st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)),
                lambda inner: st.lists(inner, max_size=2) | st.text(max_size=4),
                max_leaves=4,
            ),
            max_size=3,
        ),
        max_size=4,
    ),
    st.sampled_from([None, 1]),
)
def test_what_json_writes_is_read(
    tmp_path: Path, records: list[dict[str, Any]], indent: int | None
) -> None:
    assert values(put(tmp_path / "a.json", json.dumps(records, indent=indent))) == records
    lines = "".join(json.dumps(record) + "\n" for record in records)
    assert values(put(tmp_path / "a.jsonl", lines)) == records


def test_json_lines_under_the_name_json(tmp_path: Path) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    assert values(put(tmp_path / "a.json", lines)) == RECORDS
    assert values(put(tmp_path / "b.json", "\ufeff\n" + lines)) == RECORDS
    assert values(put(tmp_path / "c.json.gz", gzip.compress(lines.encode()))) == RECORDS


def test_one_object_is_a_row(tmp_path: Path) -> None:
    assert values(put(tmp_path / "a.json", '{"data": [{"a": 1}]}')) == [{"data": [{"a": 1}]}]
    pretty = rows(put(tmp_path / "b.json", '{\n  "data": []\n}\n'))
    assert {type(row) for row in pretty} == {Unreadable}


# --- JSON Lines ------------------------------------------------------------------------------


def test_jsonl_line_ends_marks_and_blanks(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": "\xe2\x80\xa8\xc2\x85\\u2028"}\n{"a": 3}'
    path = put(tmp_path / "a.jsonl", data)
    assert values(path) == [{"a": 1}, {"a": "\u2028\u0085\u2028"}, {"a": 3}]
    assert places(path) == ["a.jsonl:1", "a.jsonl:4", "a.jsonl:5"]


def test_jsonl_bad_lines_cost_no_neighbour(tmp_path: Path) -> None:
    bad = {
        b'{"a": "\xff"}': "not UTF-8 (byte 7 of the line)",
        b'{"a": 1': "malformed JSON",
        b'{"a": 1}{"a": 2}': "malformed JSON",
        b"[1]": "not an object but list",
        b"null": "not an object but NoneType",
        b'\xef\xbb\xbf{"a": 1}': "",
        b'{"a": ' + b"9" * 5000 + b"}": "malformed JSON",
        b"[" * 100_000: "malformed JSON",
        b'{"a": 1}\r{"a": 2}': "malformed JSON",
        b"\x00": "malformed JSON",
    }
    good = b'{"a": 1}\n'
    found = rows(put(tmp_path / "a.jsonl", good + b"".join(line + b"\n" + good for line in bad)))
    assert found[::2] == [Row(f"a.jsonl:{2 * n + 1}", {"a": 1}) for n in range(len(bad) + 1)]
    for number, (row, reason) in enumerate(zip(found[1::2], bad.values(), strict=True)):
        assert isinstance(row, Unreadable)
        assert row.place == f"a.jsonl:{2 * number + 2}"
        assert row.reason.startswith(reason)


def test_empty_jsonl_has_no_rows(tmp_path: Path) -> None:
    assert rows(put(tmp_path / "a.jsonl", "")) == []
    assert rows(put(tmp_path / "b.jsonl", "\ufeff\n\n")) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_stands_twice_is_no_row(tmp_path: Path, name: str) -> None:
    texts = ['{"a": 1}', '{"a": 1, "b": {"c": 1, "c": 2}}', '{"a": 2, "a": 3}', '{"a": 4}']
    text = "\n".join(texts) if name == "a.jsonl" else f"[{', '.join(texts)}]"
    found = rows(put(tmp_path / name, text))
    assert [getattr(row, "values", None) for row in found] == [{"a": 1}, None, None, {"a": 4}]
    reasons = [row.reason for row in found if isinstance(row, Unreadable)]
    assert reasons == ["two values for 'c'", "two values for 'a'"]


def test_integers_keep_their_value(tmp_path: Path) -> None:
    records = [{"n": 2**53 + 1}, {"n": -(2**63)}, {"n": 10**30}]
    assert values(put(tmp_path / "a.json", json.dumps(records))) == records
    lines = "".join(json.dumps(record) + "\n" for record in records)
    assert values(put(tmp_path / "a.jsonl", lines)) == records
    pq.write_table(pa.table({"n": [2**53 + 1, 2**63 - 1]}), tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == [{"n": 2**53 + 1}, {"n": 2**63 - 1}]


# --- compressed files ------------------------------------------------------------------------


def zstandard(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("end", "pack"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstandard)],
)
def test_compressed_texts(tmp_path: Path, end: str, pack: Callable[[bytes], bytes]) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
    assert values(put(tmp_path / f"a.jsonl.{end}", pack(lines))) == RECORDS
    assert values(put(tmp_path / f"b.ndjson.{end}", pack(lines[:40]) + pack(lines[40:]))) == RECORDS
    assert values(put(tmp_path / f"c.JSON.{end}", pack(json.dumps(RECORDS).encode()))) == RECORDS
    assert values(put(tmp_path / f"d.tsv.{end}", pack(b"a\tb\n1\t2"))) == [{"a": "1", "b": "2"}]
    for cut in (9, len(pack(lines)) // 2, len(pack(lines)) - 1):
        torn = put(tmp_path / f"e.jsonl.{end}", pack(lines)[:cut])
        assert f"cannot read {torn}" in refusal(torn)
    assert "cannot read" in refusal(put(tmp_path / f"f.jsonl.{end}", lines))
    assert "unknown format" in refusal(put(tmp_path / f"g.parquet.{end}", pack(lines)))


def test_gzip_of_several_members(tmp_path: Path) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
    array = json.dumps(RECORDS).encode()
    assert values(put(tmp_path / "a.jsonl.gz", gzip.compress(lines))) == RECORDS
    assert values(put(tmp_path / "a.JSON.GZ", gzip.compress(array))) == RECORDS
    members = gzip.compress(lines[:30]) + gzip.compress(lines[30:])
    assert values(put(tmp_path / "b.jsonl.gz", members)) == RECORDS


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_torn_or_damaged_gzip(tmp_path: Path, name: str) -> None:
    text = random.Random(0).randbytes(3000).hex()
    records = [{"text": text[n : n + 60]} for n in range(0, len(text), 60)]
    plain = {
        "a.jsonl.gz": "".join(json.dumps(record) + "\n" for record in records),
        "a.json.gz": json.dumps(records),
        "a.csv.gz": "text\n" + "".join(record["text"] + "\n" for record in records),
    }[name]
    good = gzip.compress(plain.encode())
    assert values(put(tmp_path / name, good)) == records
    for cut in (1, 9, 12, len(good) // 2, len(good) - 9, len(good) - 1):
        assert f"cannot read {tmp_path / name}" in refusal(put(tmp_path / name, good[:cut]))
    for place in (0, 1, len(good) // 2, len(good) - 6):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        # Rows may become malformed first, but the end is never taken for a good one.
        assert str(tmp_path / name) in refusal(put(tmp_path / name, bytes(damaged)))
    assert "cannot read" in refusal(put(tmp_path / name, plain))


# --- CSV -------------------------------------------------------------------------------------


def test_csv_is_read_as_csv_writes_it(tmp_path: Path) -> None:
    records = [
        {"a": 'quoted "x", and\nsome\r\nlines', "b": "\u2028 é", "c": ""},
        {"a": "", "b": "'", "c": " spaced "},
        {"a": "nul \x00 here", "b": ",", "c": "x" * 200_000},
    ]
    for encoding, line_end in (("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r")):
        path = tmp_path / "a.csv"
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, ["a", "b", "c"], lineterminator=line_end)
            writer.writeheader()
            writer.writerows(records)
        assert values(path) == records


def test_csv_rows_of_other_lengths(tmp_path: Path) -> None:
    found = rows(put(tmp_path / "a.csv", 'a,b\n1,2\n1\n1,2,3\n\n"x\ny",4\n5,6'))
    assert [row.values for row in found if isinstance(row, Row)] == [
        {"a": "1", "b": "2"},
        {"a": "x\ny", "b": "4"},
        {"a": "5", "b": "6"},
    ]
    bad = [row for row in found if isinstance(row, Unreadable)]
    assert [row.place for row in bad] == ["a.csv:3", "a.csv:4"]
    assert {row.reason for row in bad} == {"not as many fields as the header has columns"}
    assert found[0].place == "a.csv:2"
    assert found[-1].place == "a.csv:8"


def test_csv_with_broken_quotes(tmp_path: Path) -> None:
    found = rows(put(tmp_path / "a.csv", 'a,b\n1,2\n"x"y,3\n3,4\n5,"never closed\n6,7\n'))
    assert [row.values for row in found if isinstance(row, Row)] == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
    ]
    bad = [row for row in found if isinstance(row, Unreadable)]
    assert [row.place for row in bad] == ["a.csv:3", "a.csv:5"]
    assert all(row.reason.startswith("malformed CSV") for row in bad)


def test_csv_without_rows_or_header(tmp_path: Path) -> None:
    assert rows(put(tmp_path / "a.csv", "")) == []
    assert rows(put(tmp_path / "b.csv", "a,b\n")) == []
    message = refusal(put(tmp_path / "c.csv", '"a"x,b\n1,2\n'))
    assert f"{tmp_path}/c.csv, line 1" in message


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    write_parquet(tmp_path / "a.parquet", table)
    write_stream(tmp_path / "a.arrow", table)
    write_file(tmp_path / "b.arrow", table)
    put(tmp_path / "a.csv", "a,b,a\n1,2,3\n")
    for name in ("a.parquet", "a.arrow", "b.arrow", "a.csv"):
        message = refusal(tmp_path / name)
        assert str(tmp_path / name) in message and "2 columns named 'a'" in message


# --- Parquet and Arrow -----------------------------------------------------------------------


def write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, row_group_size=3, compression="none")


def write_stream(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_file(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


COLUMNAR = [("a.parquet", write_parquet), ("a.arrow", write_stream), ("b.arrow", write_file)]


@pytest.mark.parametrize(("name", "write"), COLUMNAR)
def test_columnar_files(tmp_path: Path, name: str, write: Callable[[Path, pa.Table], None]) -> None:
    records = [{**record, "nested": [{"n": [record["output"]]}]} for record in RECORDS]
    write(tmp_path / name, pa.Table.from_pylist(records))
    assert values(tmp_path / name) == records
    assert places(tmp_path / name) == [f"{name}:{n}" for n in range(1, 8)]
    many = [{"n": n} for n in range(2000)]
    write(tmp_path / name, pa.Table.from_pylist(many))
    assert values(tmp_path / name) == many
    write(tmp_path / name, pa.Table.from_pylist(RECORDS).slice(0, 0))
    assert rows(tmp_path / name) == []


@pytest.mark.parametrize(("name", "write"), COLUMNAR)
def test_damaged_columnar_files(
    tmp_path: Path, name: str, write: Callable[[Path, pa.Table], None]
) -> None:
    """Never a traceback, never the end of the process: rows, or one sentence with the path."""
    path = tmp_path / name
    write(path, pa.Table.from_pylist(RECORDS))
    good = path.read_bytes()
    for cut in range(0, len(good) - 12, 97):
        path.write_bytes(good[:cut])
        assert f"cannot read {path}" in refusal(path)
    refused = 0
    for place in range(0, len(good), 11):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            rows(path)
        except CurateError as error:
            refused += 1
            assert f"cannot read {path}" in str(error)
    assert refused > 5
    assert f"cannot read {path}" in refusal(put(path, "no such format"))


def test_values_that_python_cannot_hold(tmp_path: Path) -> None:
    far = pa.table({"when": pa.array([10**15], pa.timestamp("s"))})
    write_parquet(tmp_path / "a.parquet", far)
    assert "cannot read" in refusal(tmp_path / "a.parquet")
    text = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    write_stream(tmp_path / "a.arrow", pa.table({"text": text}))
    assert "cannot read" in refusal(tmp_path / "a.arrow")


# --- folders ---------------------------------------------------------------------------------


def test_saved_data_set_of_several_shards(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_list(RECORDS)
    data.save_to_disk(str(tmp_path / "saved"), num_shards=3)
    assert len(list((tmp_path / "saved").glob("*.arrow"))) == 3
    assert values(tmp_path / "saved") == RECORDS
    shutil.copy(tmp_path / "saved" / "state.json", tmp_path / "saved" / "other.json")
    assert values(tmp_path / "saved") == RECORDS  # the state, not the folder, says what counts

    [shard, *_] = sorted((tmp_path / "saved").glob("*.arrow"))
    shard.unlink()
    assert f"cannot read {shard}" in refusal(tmp_path / "saved")


@pytest.mark.parametrize("state", ["", '{"_data', "{}", "[]", "null", "\ud800"])
def test_damaged_state_of_a_saved_data_set(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_bytes(state.encode(errors="surrogatepass"))
    assert f"{tmp_path}/state.json is damaged" in refusal(tmp_path)
    (tmp_path / "dataset_dict.json").write_bytes(state.encode(errors="surrogatepass"))
    assert f"{tmp_path}/dataset_dict.json is damaged" in refusal(tmp_path)


def test_dataset_dict_gives_its_train_split(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    train, other = datasets.Dataset.from_list(RECORDS), datasets.Dataset.from_list(RECORDS[:2])
    datasets.DatasetDict(test=other, train=train).save_to_disk(str(tmp_path / "both"))
    assert values(tmp_path / "both") == RECORDS
    assert values(tmp_path / "both" / "test") == RECORDS[:2]
    datasets.DatasetDict(test=other).save_to_disk(str(tmp_path / "one"))
    assert values(tmp_path / "one") == RECORDS[:2]
    datasets.DatasetDict(test=other, dev=other).save_to_disk(str(tmp_path / "none"))
    message = refusal(tmp_path / "none")
    assert "no train split" in message and "test" in message and "dev" in message


def test_folder_of_mixed_files_by_name(tmp_path: Path) -> None:
    put(tmp_path / "b.jsonl", '{"n": 2}\n')
    put(tmp_path / "a.json", '[{"n": 1}]')
    put(tmp_path / "c.csv", "n\n3\n")
    write_parquet(tmp_path / "d.parquet", pa.table({"n": [4]}))
    write_stream(tmp_path / "e.arrow", pa.table({"n": [5]}))
    put(tmp_path / "f.jsonl.gz", gzip.compress(b'{"n": 6}\n'))
    put(tmp_path / ".hidden.jsonl", "not JSON")
    put(tmp_path / ".part.parquet.123.tmp", "half")
    put(tmp_path / "README.md", "# read me")
    (tmp_path / "sub.jsonl").mkdir()
    assert [int(row["n"]) for row in values(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", '{"_data_files": 5}'),
        ("state.json", '{"_data_files": [{}]}'),
        ("state.json", '{"_data_files": ["a.arrow"]}'),
        ("state.json", '{"_data_files": [{"filename": "a\\u0000b.arrow"}]}'),
        ("state.json", '{"_data_files": [{"filename": "../a.arrow"}]}'),
        ("state.json", "[" * 100_000),
        ("dataset_dict.json", '{"splits": 5}'),
        ("dataset_dict.json", '{"splits": null}'),
        ("dataset_dict.json", '{"splits": {"a": 1}}'),
        ("dataset_dict.json", '{"splits": [["a"]]}'),
        ("dataset_dict.json", '{"splits": ["none"]}'),
    ],
)
def test_metadata_of_other_types_is_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    put(tmp_path / name, content)
    assert str(tmp_path) in refusal(tmp_path)


def test_the_train_split_is_taken_and_what_is_not_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "train-00000-of-00002.jsonl", '{"n": 1}\n')
    put(tmp_path / "train-00001-of-00002.jsonl", '{"n": 2}\n')
    put(tmp_path / "more.ndjson", '{"n": 0}\n')
    assert len(values(tmp_path)) == 3
    assert capsys.readouterr().err == ""
    put(tmp_path / "test-00000-of-00001.jsonl", '{"n": 3}\n')
    put(tmp_path / "validation.jsonl", '{"n": 4}\n')
    put(tmp_path / "dataset_info.json", "{}")
    put(tmp_path / "notes.txt", "x")
    (tmp_path / "sub").mkdir()
    assert [row["n"] for row in values(tmp_path)] == [0, 1, 2]
    note = capsys.readouterr().err
    assert "3 files are read" in note
    for name in ("test-00000", "validation.jsonl", "dataset_info.json", "notes.txt", "sub/"):
        assert name in note
    for path in tmp_path.glob("train-*"):
        path.unlink()
    message = refusal(tmp_path)
    assert "no train split" in message and "validation.jsonl" in message


def test_a_folder_of_sub_folders_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    put(tmp_path / "data" / "a.jsonl", "{}")
    assert "holds no data" in refusal(tmp_path) and "data/" in refusal(tmp_path)


def test_folder_without_data(tmp_path: Path) -> None:
    assert f"the folder {tmp_path} holds no data" in refusal(tmp_path)
    put(tmp_path / ".hidden.jsonl", "{}")
    put(tmp_path / "notes.txt", "x")
    message = refusal(tmp_path)
    assert "holds no data" in message and ".parquet" in message


def test_missing_and_unknown(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.jsonl") == f"no such file or folder: {tmp_path}/no.jsonl"
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "standard input" in refusal(tmp_path / "pipe.jsonl")
    assert "no such file" in refusal("data/no.jsonl")  # a hub id does not end like a file
    assert "no such file" in refusal("")
    assert "no such file" in refusal("~nobody-of-this-name/data.jsonl")
    assert len(refusal('{"instruction": "given in place of a file"}' * 200)) < 300
    for name in ("a.txt", "a", "a.jsonl.zip", "a.gz"):
        message = refusal(put(tmp_path / name, "{}"))
        assert f"{tmp_path / name}: unknown format" in message and ".jsonl" in message


# --- the fingerprint -------------------------------------------------------------------------


def fingerprint(path: Path) -> str:
    return open_source(str(path)).fingerprint


def test_fingerprint_is_of_the_content_alone(tmp_path: Path, monkeypatch: Any) -> None:
    one = tmp_path / "one"
    one.mkdir()
    put(one / "a.jsonl", '{"n": 1}\n')
    put(one / "b.jsonl", '{"n": 2}\n')
    before = fingerprint(one)
    put(one / "README.md", "x")
    put(one / ".lock", "x")
    os.utime(one / "a.jsonl", (0, 0))
    assert fingerprint(one) == before
    moved = one.rename(tmp_path / "two")
    (moved / "a.jsonl").rename(moved / "another.jsonl")
    monkeypatch.chdir(tmp_path)
    assert fingerprint(Path("two")) == before
    assert fingerprint(Path("two/../two")) == before
    assert open_source("two").name == "two"


def test_fingerprint_tells_contents_apart(tmp_path: Path) -> None:
    found = set()
    for number, parts in enumerate([["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"], ["abc", ""]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, part in zip("xy", parts, strict=False):
            put(folder / f"{name}.jsonl", part)
        found.add(fingerprint(folder))
    assert len(found) == 5


def test_rows_may_be_asked_for_again(tmp_path: Path) -> None:
    source = open_source(str(put(tmp_path / "a.json", json.dumps(RECORDS))))
    half = source.rows()
    next(half)
    assert [row.values for row in source.rows() if isinstance(row, Row)] == RECORDS
    half.close()  # type: ignore[attr-defined]


def changed(path: Path, content: str) -> None:
    """Another file in the place of one."""
    put(path.with_suffix(".new"), content).replace(path)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    for change in (
        lambda path: changed(path, lines),
        lambda path: put(path, lines + lines),
        lambda path: put(path, lines[:30]),
    ):
        path = put(tmp_path / "a.jsonl", lines)
        source = open_source(str(path))
        assert len(list(source.rows())) == len(RECORDS)
        half = source.rows()
        next(half)
        change(path)
        for again in (half, source.rows()):
            with pytest.raises(CurateError, match=r"a\.jsonl changed while it was read"):
                list(again)


def test_a_name_that_is_no_utf8_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"bad\xff.jsonl")
    put(path, "{}\nbad\n")
    for data in (tmp_path, path):
        source = open_source(str(data))
        assert [row.place for row in source.rows()] == ["bad\ufffd.jsonl:1", "bad\ufffd.jsonl:2"]
        assert source.name.encode("utf-8")


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=1, max_size=20))
def test_any_name_of_a_file_is_read_and_can_be_written(tmp_path: Path, stem: bytes) -> None:
    folder = tmp_path / stem.hex()
    folder.mkdir(exist_ok=True)
    name = b"a" + re.sub(rb"[/\0]", b"", stem) + b".jsonl"
    path = folder / os.fsdecode(name)
    put(path, "{}\nbad\n")
    for data in (path, folder):
        source = open_source(str(data))
        places = [row.place for row in source.rows()]
        assert len(places) == 2 and all(place.encode("utf-8") for place in places)


# --- other processes -------------------------------------------------------------------------

SHOW = """
import sys
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.readers import open_source
try:
    source = open_source(sys.argv[1])
    for _ in range(2):
        print([getattr(row, "values", None) for row in source.rows()])
    print(source.name, source.fingerprint)
except CurateError as error:
    print("error:", error)
"""


def shown(data: str, given: bytes = b"") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SHOW, data],
        input=given,
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
        timeout=120,
        check=True,
    )
    return done.stdout.decode().splitlines()


def test_standard_input(tmp_path: Path) -> None:
    data = b'{"n": 1}\nnot JSON\n{"n": 2}'
    first, again, source = shown("-", data)
    assert first == again == "[{'n': 1}, None, {'n': 2}]"
    assert source == f"- {fingerprint(put(tmp_path / 'a.jsonl', data))}"
    assert shown("-", b"")[0] == "[]"


def test_hub_id_without_a_network() -> None:
    [message] = shown("nobody/no-such-data:test")
    assert message.startswith("error: 'nobody/no-such-data:test' is neither a file or folder here")
    assert len(message) < 400


def test_the_licence_is_the_one_that_the_hub_tells() -> None:
    def told(**fields: Any) -> str | None:
        return licence_of(DatasetInfo(id="o/n", **fields))  # type: ignore[no-untyped-call]

    assert told(cardData={"license": "apache-2.0"}) == "apache-2.0"
    assert told(cardData={"license": ["mit", "cc0-1.0"]}) == "mit, cc0-1.0"
    assert told(tags=["region:us", "license:cc-by-4.0"]) == "cc-by-4.0"
    assert told(cardData={"tags": ["x"]}, tags=[]) is None and told() is None


def test_rows_are_counted_where_that_is_cheap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most that there may be: lines are counted as they are."""
    rows = [{"instruction": str(n), "output": "x"} for n in range(7)]
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps(row) + "\n" for row in rows) + "{broken\n", "utf-8")
    array = tmp_path / "b.json"
    array.write_text(json.dumps(rows), "utf-8")
    parquet = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    assert [open_source(str(path)).count() for path in (lines, array, parquet)] == [8, 7, 7]
    assert [count_rows(str(path)) for path in (lines, array, parquet, tmp_path)] == [8, 7, 7, 22]
    monkeypatch.setattr("curate.pipeline.inputs.readers.files._COUNTED", 1)
    assert [open_source(str(path)).count() for path in (lines, array, parquet)] == [None, None, 7]
    assert count_rows(str(tmp_path)) is None
    array.write_text("[{", "utf-8")
    assert open_source(str(array)).count() is None
    parquet.write_text("no", "utf-8")
    for data in (str(tmp_path / "none.jsonl"), "owner/name", "-", str(parquet)):
        assert count_rows(data) is None


def test_a_row_group_that_is_the_whole_file_is_not_held_in_memory(tmp_path: Path) -> None:
    texts = [random.Random(number).randbytes(500).hex() for number in range(20_000)]
    table = pa.table({"instruction": texts, "output": texts})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=len(texts), use_dictionary=False)
    del table
    size = (tmp_path / "a.parquet").stat().st_size
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in open_source(str(tmp_path)).rows()]
    assert len(held) == len(texts)
    assert max(held) < 12 << 20 < size
