"""Local files of a known format: which ones a folder has, their rows, number and fingerprint."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...base.foreign_text import whole
from ...errors import CurateError
from .arrow_files import read_arrow, read_parquet
from .csv_files import read_csv, read_tsv
from .json_arrays import read_json
from .json_lines import count_lines, read_json_lines
from .rows import RawRow, Reader, Row, Source
from .saved_folders import is_saved, saved_files
from .text_files import COMPRESSED, readable

READERS: dict[str, Reader] = {
    "json": read_json,
    "jsonl": read_json_lines,
    "ndjson": read_json_lines,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
_BINARY = ("parquet", "arrow")
_OF_LINES = ("jsonl", "ndjson")
_KNOWN = f"{', '.join('.' + name for name in READERS)} (text also with {', '.join(COMPRESSED)})"
_METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json",
             "metadata.json", "config.json", "manifest.json")  # fmt: skip
_SPLIT = re.compile(r"(?:^|[-_.])(train|test|validation|valid|val|dev|eval)(?:[-_.]|$)")
_CHUNK = 1 << 20
_COUNTED = 1 << 27  # bytes: a few seconds of reading
_LINES = 32  # so many times faster than decoding is counting lines
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Listing:
    """The data files of a folder by name, and a sentence on what else is there."""

    files: list[Path]
    note: str | None = None


def format_of(name: str) -> str | None:
    """The format that a file's name tells, if it is a known one."""
    stem, end = os.path.splitext(name.lower())
    packed = end in COMPRESSED
    form = os.path.splitext(stem if packed else name.lower())[1][1:]
    return form if form in READERS and not (packed and form in _BINARY) else None


def list_folder(folder: Path) -> Listing:
    """The data files of a folder; where several splits are among them, those of train.

    Raises CurateError where there is none.
    """
    if is_saved(folder):
        return Listing(saved_files(folder))
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    data = [path for path in there if path.is_file() and format_of(path.name)]
    found = [path for path in data if path.name not in _METADATA]
    splits = {split for path in found if (split := _split(path))}
    if len(splits) > 1 and "train" not in splits:
        raise CurateError(f"{folder} has no train split: give one of its files, {_names(found)}")
    if "train" in splits:
        found = [path for path in found if _split(path) in (None, "train")]
    unread = [path for path in there if path not in found and path.suffix != ".md"]
    if not found:
        raise CurateError(
            f"the folder {folder} holds no data: looked for files ending in {_KNOWN}"
            + (f"; it has {_names(unread)}" if unread else "")
        )
    note = f"{folder}: {len(found)} files are read, but not {_names(unread)}"
    return Listing(found, note if unread else None)


def _split(path: Path) -> str | None:
    found = _SPLIT.search(path.name.lower())
    return found[1] if found else None


def _names(paths: list[Path]) -> str:
    names = [whole(path.name) + ("/" if path.is_dir() else "") for path in paths[:_SHOWN]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def file_source(name: str, paths: list[Path]) -> Source:
    """The rows of files. CurateError for an unknown format, and for a file that changes later."""
    for path in paths:
        if not format_of(path.name):
            raise CurateError(f"{whole(str(path))}: unknown format; known are {_KNOWN}")
    before = [_state(path) for path in paths]
    fingerprint = _fingerprint(paths)

    def rows() -> Iterator[RawRow]:
        for path, state in zip(paths, before, strict=True):
            _refuse_changed(path, state)
            yield from read_file(path)
            _refuse_changed(path, state)

    return Source(whole(name), fingerprint, rows, lambda: _count(paths))


def read_file(path: Path) -> Iterator[RawRow]:
    """The rows of a file of a known format."""
    return READERS[format_of(path.name) or ""](path)


def _state(path: Path) -> tuple[int, ...]:
    with readable(path):
        stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _refuse_changed(path: Path, state: tuple[int, ...]) -> None:
    if _state(path) != state:
        raise CurateError(
            f"{whole(str(path))} changed while it was read: run the command again, with another "
            "--out, once it is complete"
        )


def count_rows(data: str) -> int | None:
    """The most rows that local files or a folder may have; None where that is not cheap to know."""
    path = Path(os.path.expanduser(data))
    try:
        return _count(list_folder(path).files if os.path.isdir(path) else [path])
    except (CurateError, OSError):
        return None


def _count(paths: list[Path]) -> int | None:
    """Parquet says it itself; lines are counted; others are read unless they are large."""
    try:
        if sum(map(_effort, paths)) > _COUNTED:
            return None
        return sum(map(_rows_of, paths))
    except (CurateError, OSError, ValueError, LookupError, pa.ArrowException):
        # It is told when the rows are read.
        return None


def _effort(path: Path) -> float:
    """What counting a file's rows takes, as bytes of text that are decoded."""
    form, packed = format_of(path.name), 8 if path.suffix.lower() in COMPRESSED else 1
    if form == "parquet":
        return 0
    return path.stat().st_size * packed / (_LINES if form in _OF_LINES else 1)


def _rows_of(path: Path) -> int:
    form = format_of(path.name)
    if form == "parquet":
        return int(pq.read_metadata(path).num_rows)
    if form in _OF_LINES:
        return count_lines(path)
    return sum(isinstance(row, Row) for row in read_file(path))


def _fingerprint(paths: list[Path]) -> str:
    """SHA-256 over the files' bytes, in order; their names and places do not count."""
    digest = hashlib.sha256()
    for path in paths:
        with readable(path), path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        digest.update(b"\0")
    return digest.hexdigest()
