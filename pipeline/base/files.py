"""Files that are there whole or not at all: written under a temporary name, flushed, renamed."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import CurateError
from . import checksums as checks
from .foreign_json import parse_json
from .foreign_text import whole

_checks: list[tuple[str, Callable[[], None]]] = []
"""Folders of locks that this process holds, and what raises once one of them is lost."""


@contextmanager
def checked_publications(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """In the body, call `check` before anything is put in place below a folder."""
    entry = (os.path.realpath(folder), check)
    _checks.append(entry)
    try:
        yield
    finally:
        _checks.remove(entry)


def _check(path: Path) -> None:
    place = os.path.realpath(path)
    for folder, check in list(_checks):
        if os.path.commonpath((folder, place)) == folder:
            check()


@contextmanager
def writable(place: Path) -> Iterator[None]:
    """Turn what a disk refuses (full, read-only, no permission) into one sentence."""
    try:
        yield
    except OSError as error:
        raise CurateError(
            f"cannot write {place}: {error.strerror or error}; what was finished is kept, run the "
            "same command again to go on"
        ) from None


def write_atomically(
    path: Path,
    write: Callable[[Path], object],
    *,
    publish: Callable[[Path, Path], None] = os.replace,
) -> None:
    """Let `write` fill a temporary file beside `path`, then `publish` it in place."""
    _check(path)
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            write(temporary)
            sync(temporary)
            _check(path)
            publish(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people to read, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def create_json(path: Path, value: Any) -> None:
    """Write JSON where no file is yet; nothing where another process was first."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, _writes(text), publish=_publish_first)


def _publish_first(temporary: Path, path: Path) -> None:
    with suppress(FileExistsError):
        os.link(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically; what is no character becomes U+FFFD."""
    write_atomically(path, _writes(text))


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write a line of JSON a row, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _writes(text: str) -> Callable[[Path], object]:
    return lambda temporary: temporary.write_text(whole(text), "utf-8")


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other writer has: neither a thread here nor a host elsewhere."""
    return path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.{uuid.uuid4().hex[:8]}.tmp")


def write_parquet(path: Path, table: pa.Table, **notes: Any) -> None:
    """Write a Parquet file with checksums, atomically; `notes` come back from `read_notes`."""
    ours = {b"curate": json.dumps(notes).encode(), checks.NOTE: checks.EMPTY}
    schema = table.schema.with_metadata({**(table.schema.metadata or {}), **ours})
    made = pa.BufferOutputStream()
    pq.write_table(table.cast(schema), made, compression="zstd", write_page_checksum=True)
    data = checks.seal_parquet(made.getvalue().to_pybytes())
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def read_parquet(
    path: Path, columns: list[str] | None = None
) -> tuple[pa.Table, dict[str, Any]] | None:
    """A whole, undamaged Parquet file (or columns of it) and its notes; None if it is not."""
    try:
        with pa.OSFile(str(path)) as file:
            data = file.read_buffer()  # Arrow's memory: its threads cannot let go of Python's
        if not checks.parquet_is_intact(data.to_pybytes()):
            return None
        parquet = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = parquet.read(columns=columns, use_threads=False)
        return table, parse_json((table.schema.metadata or {}).get(b"curate", b"{}"))
    except (OSError, ValueError, pa.ArrowException):  # ValueError: names or notes are no text
        return None


def intact_parquet(path: Path, columns: list[str] | None = None, *, remedy: str) -> pa.Table:
    """The table alone; CurateError, which says the remedy, where it is absent or damaged."""
    found = read_parquet(path, columns)
    if found is None:
        raise CurateError(f"{path} is damaged: {remedy}")
    return found[0]


def read_notes(path: Path) -> dict[str, Any] | None:
    """The notes of a Parquet file by its footer alone; None if it is absent or damaged."""
    try:
        notes = parse_json((pq.read_schema(path).metadata or {}).get(b"curate", b"{}"))
    except (OSError, ValueError, pa.ArrowException):
        return None
    return notes if isinstance(notes, dict) else None


def count_of(path: Path) -> int:
    """The rows of a Parquet file by its footer alone; 0 if it is absent or damaged."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError, pa.ArrowException):
        return 0


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a new folder, then put it in the place of `path`."""
    _check(path)
    with writable(path):
        temporary = path.with_name(f".{path.name}.new")
        old = path.with_name(f".{path.name}.old")
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            fill(temporary)
            for written in temporary.iterdir():
                sync(written)
            _check(path)
            if path.exists():
                os.rename(path, old)
            os.rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Bring a file, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
