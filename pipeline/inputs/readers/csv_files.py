"""CSV and TSV with a header."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...base.foreign_text import whole
from ...errors import CurateError
from .rows import RawRow, Row, Unreadable, refuse_repeated
from .text_files import opened, utf8


def _read(path: Path, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(1 << 30)
    with opened(path) as file, utf8(file, path) as text:
        reader = csv.DictReader(text, strict=True, delimiter=delimiter)
        if not _has_header(reader, path):
            return
        while True:
            place = f"{whole(path.name)}:{reader.line_num + 1}"
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


def _has_header(reader: "csv.DictReader[str]", path: Path) -> bool:
    """Whether there is one; CurateError for one that cannot be read or names a column twice."""
    try:
        names = reader.fieldnames
    except csv.Error as error:
        raise CurateError(f"malformed CSV in {whole(str(path))}, line 1: {error}") from None
    refuse_repeated(path, names or ())
    return names is not None


read_csv, read_tsv = partial(_read, delimiter=","), partial(_read, delimiter="\t")
