"""Arrow folders as `datasets` writes them: from tables, one in memory at a time, and back."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...base.checksums import crc32_of, with_checksum
from ...inputs.readers.saved_folders import CHECKSUM, STATE, saved_files

FILE_BYTES = 500 << 20
"""Bytes after which another file begins, as `datasets` has it."""


def write_tables(folder: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    """Write what `save_to_disk` would, which reads all of a set through a memory map."""
    import datasets

    datasets.disable_progress_bars()
    # Its own fingerprint pickles each column and is replaced below.
    empty = datasets.Dataset(schema.empty_table(), fingerprint="0")
    empty.save_to_disk(str(folder), num_shards=1)
    (folder / "data-00000-of-00001.arrow").unlink()
    features = empty.features.arrow_schema.metadata
    number = _write_shards(folder, tables, schema.with_metadata(features))
    names = [f"data-{index:05d}-of-{number:05d}.arrow" for index in range(number)]
    for index, name in enumerate(names):
        (folder / f"{index}.arrow").rename(folder / name)
    state = json.loads((folder / STATE).read_text("utf-8"))
    files = [{"filename": name, CHECKSUM: crc32_of(folder / name)} for name in names]
    digest = hashlib.sha256(json.dumps(files).encode())
    state |= {"_data_files": files, "_fingerprint": digest.hexdigest()[:16]}
    (folder / STATE).write_text(json.dumps(with_checksum(state), indent=2, sort_keys=True), "utf-8")


def _write_shards(folder: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> int:
    """Write the tables as streams of some size, `0.arrow` and so on; one at least. How many."""
    table: pa.Table | None = next(tables, schema.empty_table())
    number = 0
    while table is not None:
        path = str(folder / f"{number}.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            while table is not None and file.tell() < FILE_BYTES:
                writer.write_table(table.replace_schema_metadata(schema.metadata))
                table = next(tables, None)
        number += 1
    return number


def batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """What a set holds, one batch in memory at a time; CurateError when it is damaged."""
    for path in saved_files(folder) if folder.exists() else ():
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def read_rows(folder: Path, id: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a set; only those of one id if it is given."""
    for batch in batches(folder):
        chosen = batch if id is None else batch.filter(pc.equal(batch.column("id"), id))
        yield from chosen.to_pylist()
