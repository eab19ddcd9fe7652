"""Parquet and Arrow files, a batch in memory at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from ...base.foreign_text import whole
from ...errors import CurateError
from .rows import RawRow, Row, refuse_repeated
from .text_files import readable

_BATCH = 512
_BUFFER = 1 << 20


def read_parquet(path: Path) -> Iterator[RawRow]:
    """The rows of a Parquet file."""
    # A row group may be the whole file: its columns are read through a buffer, not at once.
    lean = {"pre_buffer": False, "buffer_size": _BUFFER}
    with readable(path), pq.ParquetFile(path, page_checksum_verification=True, **lean) as file:
        refuse_repeated(path, file.schema_arrow.names)
        yield from _numbered(path, file.iter_batches(_BATCH))


def read_arrow(path: Path) -> Iterator[RawRow]:
    """The rows of an Arrow stream or file."""
    with readable(path), pa.OSFile(str(path)) as file:  # a map would count as memory
        try:
            reader = pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(file)
        refuse_repeated(path, reader.schema.names)
        yield from _numbered(path, _batches(reader))


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        return (reader.get_batch(i) for i in range(reader.num_record_batches))
    return iter(reader)


def _numbered(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[RawRow]:
    number = 0
    for batch in batches:
        batch.validate(full=True)  # or a damaged file ends the process
        for part in range(0, batch.num_rows, _BATCH):
            for values in _values(path, batch.slice(part, _BATCH)):
                number += 1
                yield Row(f"{whole(path.name)}:{number}", values)


def _values(path: Path, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError) as error:  # a time beyond the calendar, for one
        raise CurateError(f"cannot read {whole(str(path))}: {error}") from None
    return rows
