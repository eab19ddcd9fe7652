"""Rows in memory as a data set: a list of dicts, or a `datasets.Dataset`."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from .readers import RawRow, Row, Source, Unreadable


class InlineData(str):
    """The name of rows in memory, and the rows; a text, so that it goes where DATA's name goes."""

    rows: Iterable[Any]

    @classmethod
    def of(cls, rows: Iterable[Any]) -> "InlineData":
        """Name the rows by their number."""
        number = f"{len(rows)} " if isinstance(rows, Sized) else ""
        data = cls(f"{number}rows in memory")
        data.rows = rows
        return data


def inline_source(data: InlineData) -> Source:
    """The rows with a fingerprint of their content."""
    digest, number = hashlib.sha256(), 0
    for values in data.rows:
        line = json.dumps(values, ensure_ascii=False, default=repr)
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
        number += 1

    def rows() -> Iterator[RawRow]:
        for place, values in enumerate(data.rows, 1):
            yield _row(f"row {place}", values)

    return Source(str(data), digest.hexdigest(), rows, lambda: number)


def _row(place: str, values: Any) -> RawRow:
    if not isinstance(values, dict):
        return Unreadable(place, f"not an object but {type(values).__name__}")
    return Row(place, values)
