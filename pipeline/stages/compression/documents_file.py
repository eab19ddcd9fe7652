"""`--out` of `curate bpc`: a row for each document, in parts until all of them are measured."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...base.files import intact_parquet, read_notes, write_atomically, write_parquet
from ...errors import CurateError
from ...method.statistics.compression import bits_per
from ...records import typed
from ...runs.directory import work_folder
from ...runs.lock import run_lock
from .measuring import Measured

Row = Mapping[str, Any]
SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id"),
        *typed(pa.int64(), "characters", "bytes", "tokens"),
        *typed(pa.float64(), "nats", "bits_per_character", "bits_per_byte"),
        *typed(pa.string(), "status", "group"),
    ]
)
PART_ROWS, PART_CHARACTERS = 1000, 1_000_000
"""A part ends with whichever comes first."""


def row_of(measured: Measured) -> Row:
    """A document's row; null where nothing valid was scored."""
    document = measured.document()
    ratios = dict.fromkeys(("bits_per_character", "bits_per_byte"))
    row: dict[str, Any] = {"id": measured.text.id, **asdict(document), **ratios}
    if document.nats is not None:
        row["bits_per_character"] = bits_per(document.nats, document.characters)
        row["bits_per_byte"] = bits_per(document.nats, document.bytes)
    return {**row, "status": measured.status, "group": measured.text.group}


def rows_in_parts(
    out: Path,
    identity: Mapping[str, Any],
    measure: Callable[[int], Iterator[Row]],
    *,
    part_rows: int = PART_ROWS,
) -> Iterator[Row]:
    """All rows; those of `measure(skip)` are written as they come, and put together in the end.

    Raises CurateError where `out` holds anything but the rows of the same job.
    """
    if out.exists():
        yield from _finished_rows(out, identity)
        return
    folder = work_folder(out, identity)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder, "bpc"):
        parts, number = sorted(folder.glob("*.parquet")), 0
        for part in parts:
            rows = _read(part)
            number += len(rows)
            yield from rows
        for index, rows in enumerate(_grouped(measure(number), part_rows), start=len(parts)):
            write_parquet(
                folder / f"{index:06d}.parquet", pa.Table.from_pylist(rows, schema=SCHEMA)
            )
            yield from rows
        write_atomically(out, lambda path: _join(folder, path, identity))
    shutil.rmtree(folder, ignore_errors=True)


def _grouped(rows: Iterable[Row], most: int) -> Iterator[list[Row]]:
    group: list[Row] = []
    characters = 0
    for row in rows:
        group.append(row)
        characters += row["characters"]
        if len(group) == most or characters >= PART_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _read(part: Path) -> list[Row]:
    remedy = "remove its folder and run the same command again"
    rows: list[Row] = intact_parquet(part, remedy=remedy).to_pylist()
    return rows


def _join(folder: Path, path: Path, identity: Mapping[str, Any]) -> None:
    schema = SCHEMA.with_metadata({"curate": json.dumps(identity)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in sorted(folder.glob("*.parquet")):
            writer.write_table(pa.Table.from_pylist(_read(part), schema=schema))


def _finished_rows(out: Path, identity: Mapping[str, Any]) -> list[Row]:
    if out.is_dir():
        raise CurateError(f"--out {out} is a folder; give the name of a Parquet file")
    if (read_notes(out) or {}) != identity:
        raise CurateError(
            f"{out} is there and holds no numbers of this corpus under this configuration: choose "
            "another --out"
        )
    rows: list[Row] = pq.read_table(out).to_pylist()
    return rows
