"""Atomic files: whatever is cut short or damaged, what is there is whole or not there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline.base.files import (
    read_parquet,
    replace_folder,
    writable,
    write_atomically,
    write_json,
    write_parquet,
    write_text,
)
from curate.pipeline.errors import CurateError

TABLE = pa.table({"id": [f"r{n}" for n in range(200)], "n": list(range(200))})


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_json_and_text(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "folder" / "a.json", {"é": [1, None]})
    assert json.loads((tmp_path / "new" / "folder" / "a.json").read_text("utf-8")) == {
        "é": [1, None]
    }
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new\r\n\u2028")
    assert (tmp_path / "a.txt").read_bytes() == "new\r\n\u2028".encode()
    assert names(tmp_path) == ["a.txt", "new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_writer_that_raises_leaves_the_old_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def write(path: Path) -> None:
        path.write_text("half of the n")
        raise error(28, "No space left on device") if error is OSError else error

    write_text(tmp_path / "a.txt", "old")
    expected = CurateError if error is OSError else error
    with pytest.raises(expected) as caught:
        write_atomically(tmp_path / "a.txt", write)
    with pytest.raises(expected):
        write_atomically(tmp_path / "b.txt", write)
    if error is OSError:
        assert f"cannot write {tmp_path}/a.txt: No space left on device" in str(caught.value)
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    writers: list[Callable[[Path], None]] = [
        lambda path: write_text(path, "x"),
        lambda path: write_json(path, 1),
        lambda path: write_parquet(path, TABLE),
        lambda path: replace_folder(path, lambda _: None),
    ]
    for write in writers:
        with pytest.raises(CurateError) as caught:
            write(tmp_path / "file" / "sub" / "a")
        assert str(caught.value).startswith(f"cannot write {tmp_path}/file/sub/a: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(CurateError, match="cannot write"):
        write_text(tmp_path, "over a folder")
    with pytest.raises(KeyError), writable(tmp_path):
        raise KeyError
    assert names(tmp_path) == ["file"]


# --- kill -9 ---------------------------------------------------------------------------------

# The parent imports once and forks; each child writes for ever, version after version, until it
# is killed. The big file's versions differ in every value.
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import pyarrow as pa
from curate.pipeline.base.files import read_parquet, replace_folder, write_json, write_parquet

folder = Path(sys.argv[1])
folder.mkdir()
random.seed(0)

def fill(version):
    def write(new):
        for name in "abc":
            (new / name).write_text(f"{version} " * 5_000)
    return write

def write(version):
    write_json(folder / "a.json", [version] * 5_000)
    write_parquet(folder / "a.parquet", pa.table({"n": [version] * 20_000}), version=version)
    replace_folder(folder / "set", fill(version))

def check():
    found = json.loads((folder / "a.json").read_text())
    assert len(found) == 5_000 and len(set(found)) == 1
    table, notes = read_parquet(folder / "a.parquet")
    assert table.num_rows == 20_000
    assert table.column("n").unique().to_pylist() == [notes["version"]]
    if (folder / "set").exists():  # a folder may be gone, and is made again
        texts = {(folder / "set" / name).read_text() for name in "abc"}
        assert len(texts) == 1 and len(texts.pop().split()) == 5_000
    return found[0]

write(0)
seen = {check()}
for number in range(24):
    child = os.fork()
    if not child:
        version = 1000 * number
        while True:
            version += 1
            write(version)
    time.sleep(0.01 + 0.1 * random.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen.add(check())
assert len(seen) > 3, seen
write(-1)
assert check() == -1
print(sorted(p.name for p in folder.iterdir() if not p.name.endswith(".tmp")))
assert all(p.name.startswith(".") for p in folder.iterdir() if p.name.endswith(".tmp"))
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['a.json', 'a.parquet', 'set']\n"


# --- Parquet ---------------------------------------------------------------------------------


def damaged(good: bytes) -> Iterator[tuple[str, int, bytes]]:
    for length in (*range(0, len(good), 97), *range(len(good) - 12, len(good))):
        yield "cut", length, good[:length]
    for place in range(0, len(good), 7):
        changed = bytearray(good)
        changed[place] ^= 0xFF
        yield "changed", place, bytes(changed)


def test_damaged_parquet_is_as_if_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert read_parquet(path) is None
    assert read_parquet(tmp_path) is None
    write_parquet(path, TABLE, step="all", number=7)
    good = path.read_bytes()
    refused = 0
    for what, place, data in damaged(good):
        path.write_bytes(data)
        found = read_parquet(path)  # never an exception
        refused += found is None
        if what == "cut":
            assert found is None
        elif found is not None:  # only the name of the checksum is covered by none
            assert found[0].equals(TABLE) and found[1] == {"step": "all", "number": 7}
            assert len(b"curate.crc32") > abs(place - good.rfind(b"curate.crc32"))
    assert refused > 100
    path.write_bytes(good + b"x")
    assert read_parquet(path) is None
    path.write_bytes(good)
    found = read_parquet(path)
    assert found is not None
    assert found[0].equals(TABLE)
    assert found[1] == {"step": "all", "number": 7}


def test_notes_stand_beside_other_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, TABLE.replace_schema_metadata({"theirs": "é"}))
    found = read_parquet(path)
    assert found is not None and found[1] == {}
    assert found[0].schema.metadata[b"theirs"] == "é".encode()
    pq.write_table(TABLE, path)
    found = read_parquet(path)
    assert found is not None and found[1] == {}
    write_parquet(path, TABLE.slice(0, 0), k=[1])
    found = read_parquet(path)
    assert found is not None and (found[0].num_rows, found[1]) == (0, {"k": [1]})


# --- folders ---------------------------------------------------------------------------------


def test_replace_folder(tmp_path: Path) -> None:
    def fill(text: str) -> None:
        replace_folder(tmp_path / "sets" / "a", lambda new: write_text(new / text, text))

    fill("one")
    assert names(tmp_path / "sets" / "a") == ["one"]
    # What a crash may leave: a half new folder, or the old one moved away and no new one.
    (tmp_path / "sets" / ".a.new").mkdir()
    (tmp_path / "sets" / ".a.new" / "half").write_text("x")
    (tmp_path / "sets" / "a").rename(tmp_path / "sets" / ".a.old")
    fill("two")
    assert names(tmp_path / "sets" / "a") == ["two"]
    assert names(tmp_path / "sets") == ["a"]


def test_a_filler_that_raises_leaves_the_old_folder(tmp_path: Path) -> None:
    replace_folder(tmp_path / "a", lambda new: write_text(new / "one", "one"))

    def fill(new: Path) -> None:
        write_text(new / "half", "x")
        raise ValueError

    with pytest.raises(ValueError):
        replace_folder(tmp_path / "a", fill)
    assert names(tmp_path / "a") == ["one"]
    assert all(name == "a" or name.startswith(".") for name in names(tmp_path))


def test_permissions_of_a_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not bind root")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CurateError, match="Permission denied"):
            write_text(tmp_path / "a", "x")
    finally:
        tmp_path.chmod(0o700)
