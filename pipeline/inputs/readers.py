"""Files, folders and hub ids -> raw rows, streamed, each with the place it came from.

A row that cannot be read is yielded as `Unreadable`, so that its neighbours are not lost with it.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from ..base.sha256sums import check_sums
from ..errors import CurateError
from .inline import InlineData
from .remote_data import fetched
from .urls import as_url, checked, local_path

_BATCH = 512
_CHUNK = 1 << 20
_COUNTED = 1 << 27  # bytes: a few seconds of reading
_SPACES = re.compile(r"[ \t\r\n]*")
_AFTER_VALUE = tuple(" \t\r\n,]")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.]+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """A raw row and its place, such as `data.jsonl:17`."""

    place: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is not one, and why."""

    place: str
    reason: str


RawRow = Row | Unreadable


@dataclass(frozen=True, slots=True)
class Source:
    """A data set: where from, a fingerprint of its content, and its rows, as often as asked."""

    name: str
    fingerprint: str
    rows: Callable[[], Iterator[RawRow]]
    count: Callable[[], int | None] = lambda: None
    """How many rows there are, where that is cheap to know."""
    _keep: object = field(default=None, repr=False)  # a spooled stdin lives as long as the source
    licence: str | None = None
    """What the hub has as the data set's licence."""


def open_source(data: str) -> Source:
    """Open a file, a folder, either's URL, `-` (JSONL on standard input) or a hub id.

    Raises CurateError for what is missing, empty or in no known format.
    """
    if isinstance(data, InlineData):
        return _in_memory(data)
    if data == "-":
        return _standard_input()
    if (url := as_url(data)) is not None:
        return _at(url)
    place = os.path.expanduser(data)  # unlike Path's, as typed where there is no such home
    path = Path(place)
    if os.path.isfile(place):  # unlike Path's, False for a name that is too long or empty
        return _files(data, [path])
    if os.path.isdir(place):
        with _readable(path):
            return _files(data, files_of(path))
    if _HUB_ID.fullmatch(data) and not _format_of(path):
        return _hub(data)
    raise CurateError(f"no such file or folder: {data[:200]}")


def _at(url: str) -> Source:
    path = local_path(checked(url)) or fetched(url, lambda name: bool(_format_of(Path(name))))
    return replace(open_source(str(path)), name=url)


def _in_memory(data: InlineData) -> Source:
    def rows() -> Iterator[RawRow]:
        for number, values in enumerate(data.rows, 1):
            yield _object(f"row {number}", values)

    return Source(str(data), data.fingerprint(), rows, lambda: len(data.rows))


def _standard_input() -> Source:
    spool = tempfile.NamedTemporaryFile(suffix=".jsonl", prefix="curate-")  # noqa: SIM115
    while chunk := sys.stdin.buffer.read(_CHUNK):
        spool.write(chunk)
    spool.flush()
    source = _files("standard input", [Path(spool.name)])
    return Source("-", source.fingerprint, source.rows, source.count, spool)


# --- files ---------------------------------------------------------------------------------------


def _format_of(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return next((ext for ext in _READERS if name.endswith("." + ext)), None)


def files_of(folder: Path) -> list[Path]:
    """The data files of a folder, by name; the train split of a saved DatasetDict."""
    if (folder / "dataset_dict.json").is_file():
        splits = _saved(folder / "dataset_dict.json", "splits")
        if "train" not in splits and len(splits) != 1:
            raise CurateError(f"{folder} has no train split: give one of {folder}/{splits}")
        folder = _inside(folder, "train" if "train" in splits else splits[0])
    if (folder / "state.json").is_file():
        check_sums(folder)
        parts = _saved(folder / "state.json", "_data_files")
        return [_inside(folder, part["filename"]) for part in parts]
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    found = [path for path in found if _format_of(path)]
    if not found:
        raise CurateError(
            f"the folder {folder} holds no data: looked for files ending in "
            f"{', '.join('.' + ext for ext in _READERS)} (the first two also with .gz)"
        )
    return found


def _inside(folder: Path, name: Any) -> Path:
    """A file that a data set names; CurateError for one that is not in its own folder."""
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
        raise CurateError(f"{folder} names {str(name)[:100]!r}, which is no file of its own")
    return folder / name


def _saved(path: Path, key: str) -> Any:
    """What `save_to_disk` noted under a key."""
    try:
        return json.loads(path.read_text("utf-8"))[key]
    except (ValueError, KeyError, TypeError):
        raise CurateError(f"{path} is damaged: it names no {key!r}; save the data again") from None


def _files(name: str, paths: list[Path]) -> Source:
    for path in paths:
        if not _format_of(path):
            raise CurateError(
                f"{path}: unknown format; known are {', '.join('.' + ext for ext in _READERS)}"
            )

    def rows() -> Iterator[RawRow]:
        for path in paths:
            yield from _READERS[_format_of(path) or ""](path)

    return Source(name, _fingerprint(paths), rows, lambda: _count(paths))


def _count(paths: list[Path]) -> int | None:
    """Parquet says it itself; other files are read once more unless they are large."""
    try:
        if all(_format_of(path) == "parquet" for path in paths):
            return sum(int(pq.read_metadata(path).num_rows) for path in paths)
        packed = {path: 8 if path.suffix == ".gz" else 1 for path in paths}
        if sum(path.stat().st_size * times for path, times in packed.items()) > _COUNTED:
            return None
        rows = (row for path in paths for row in _READERS[_format_of(path) or ""](path))
        return sum(isinstance(row, Row) for row in rows)
    except (CurateError, OSError, pa.ArrowException):  # told when the rows are read
        return None


def _fingerprint(paths: list[Path]) -> str:
    """SHA-256 over the files' bytes, in order; their names and places do not count."""
    digest = hashlib.sha256()
    for path in paths:
        with _readable(path), path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        digest.update(b"\0")
    return digest.hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, UnicodeError, zlib.error, pa.ArrowException) as error:
        raise CurateError(f"cannot read {path}: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with _readable(path), path.open("rb") as file:
        if path.name.lower().endswith(".gz"):
            with gzip.open(file) as unzipped:
                yield unzipped  # type: ignore[misc]  # GzipFile reads as a BinaryIO does
        else:
            yield file


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            # Only \n ends a line: U+2028 and its like belong to the text.
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield _parsed(f"{path.name}:{number}", line)


def _parsed(place: str, line: bytes) -> RawRow:
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Unreadable(place, f"not UTF-8 (byte {error.start} of the line)")
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        return Unreadable(place, f"malformed JSON ({error})")
    return _object(place, values)


def _object(place: str, values: Any) -> RawRow:
    if not isinstance(values, dict):
        return Unreadable(place, f"not an object but {type(values).__name__}")
    return Row(place, values)


def _read_json(path: Path) -> Iterator[RawRow]:
    """A JSON array of objects, decoded one by one; JSON Lines under this name are read as such."""
    with _opened(path) as file:
        first = b""
        while not first and (chunk := file.read(4096)):
            first = chunk.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first == b"{":
        yield from _read_jsonl(path)
    elif first:
        yield from _read_array(path)


def _read_array(path: Path) -> Iterator[RawRow]:
    with _opened(path) as file, _utf8(file, path) as text:
        scan = _Scanner(text, path)
        scan.take("[", "neither an array nor objects")
        more = scan.peek() != "]"
        while more:
            scan.peek()
            place = f"{path.name}:{scan.line}"
            yield _object(place, scan.value())
            more = scan.peek() != "]"
            if more:
                scan.take(",", "expected ',' or ']'")
        scan.take("]", "expected ']'")
        scan.take("", "more text after the array")


class _Scanner:
    """JSON text, read in chunks: the next character that is no space, and the next value."""

    def __init__(self, text: io.TextIOWrapper, path: Path) -> None:
        self.line = 1
        self._text, self._path = text, path
        self._buffer, self._at = "", 0
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            spaces = _SPACES.match(self._buffer, self._at)
            self._move(spaces.end() if spaces else self._at)
            if self._at < len(self._buffer) or not self._more():
                return self._buffer[self._at : self._at + 1]

    def take(self, wanted: str, otherwise: str) -> None:
        """Go past a character; CurateError when another is next."""
        if self.peek() != wanted:
            raise self._malformed(otherwise, self._at)
        self._at += len(wanted)

    def value(self) -> Any:
        """Go past the value that is next."""
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                malformed = self._malformed(error.msg, error.pos)
                if not self._is_cut(error) or not self._more():
                    raise malformed from None
            except (ValueError, RecursionError) as error:
                raise self._malformed(str(error), self._at) from None
            else:
                # The chunk may end within a number, and `1.` or `1e` begin with one.
                if self._buffer[end : end + 1] in _AFTER_VALUE or not self._more():
                    self._move(end)
                    return value

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether more text may mend it; what is wrong for good need not be read to the end."""
        return len(self._buffer) - error.pos < 16 or error.msg.startswith("Unterminated")

    def _move(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        rest = self._buffer[self._at :]
        chunk = self._text.read(max(_CHUNK, len(rest)))
        self._buffer, self._at = rest + chunk, 0
        return bool(chunk)

    def _malformed(self, what: str, position: int) -> CurateError:
        line = self.line + self._buffer.count("\n", self._at, position)
        return CurateError(f"malformed JSON in {self._path}, line {line}: {what}")


@contextmanager
def _utf8(file: BinaryIO, path: Path) -> Iterator[io.TextIOWrapper]:
    try:
        yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    except UnicodeDecodeError as error:
        byte = file.tell() - len(error.object) + error.start  # the object is what was read last
        raise CurateError(f"{path} is not UTF-8 (byte {byte})") from None


def _read_csv(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(1 << 30)
    with _opened(path) as file, _utf8(file, path) as text:
        reader = csv.DictReader(text, strict=True)
        try:
            if reader.fieldnames is None:
                return
        except csv.Error as error:
            raise CurateError(f"malformed CSV in {path}, line 1: {error}") from None
        while True:
            place = f"{path.name}:{reader.line_num + 1}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Unreadable(place, f"malformed CSV ({error})")
                continue
            if None in row or None in row.values():
                yield Unreadable(place, "not as many fields as the header has columns")
            else:
                yield Row(place, row)


def _read_parquet(path: Path) -> Iterator[RawRow]:
    # A row group may be the whole file: its columns are read through a buffer, not at once.
    lean = {"pre_buffer": False, "buffer_size": _CHUNK}
    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True, **lean) as file:
        yield from _numbered(path, file.iter_batches(_BATCH))


def _read_arrow(path: Path) -> Iterator[RawRow]:
    with _readable(path), pa.OSFile(str(path)) as file:  # a map would count as memory
        try:
            reader = pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            opened = pa.ipc.open_file(file)
            reader = (opened.get_batch(i) for i in range(opened.num_record_batches))
        yield from _numbered(path, reader)


def _numbered(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[RawRow]:
    number = 0
    for batch in batches:
        batch.validate(full=True)  # or a damaged file ends the process
        for part in range(0, batch.num_rows, _BATCH):
            for values in _values(path, batch.slice(part, _BATCH)):
                number += 1
                yield Row(f"{path.name}:{number}", values)


def _values(path: Path, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError) as error:  # a time beyond the calendar, for one
        raise CurateError(f"cannot read {path}: {error}") from None
    return rows


_READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}


# --- the hub -------------------------------------------------------------------------------------


def _hub(data: str) -> Source:
    import datasets
    from huggingface_hub import HfApi

    name, _, split = data.partition(":")
    try:
        info = HfApi().dataset_info(name)
        revision = info.sha
        stream = datasets.load_dataset(
            name, split=split or "train", streaming=True, revision=revision
        )
    except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CurateError(
            f"{data!r} is neither a file or folder here nor a data set that the hub gives "
            f"({first[:200]})"
        ) from None

    def rows() -> Iterator[RawRow]:
        for number, values in enumerate(stream, 1):
            yield Row(f"{data}:{number}", dict(values))

    fingerprint = f"{name}@{revision}:{split or 'train'}"
    return Source(data, fingerprint, rows, licence=licence_of(info))


def licence_of(info: Any) -> str | None:
    """The licence that the hub tells of a data set, from its card or its tags."""
    card = getattr(info, "card_data", None)
    given = card.get("license") if card is not None else None
    found = [given] if isinstance(given, str) else list(given or [])
    tags = getattr(info, "tags", None) or []
    found = found or [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    return ", ".join(found) or None
