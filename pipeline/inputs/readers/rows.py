"""What a reader gives: rows, each with its place, and the source that they are from."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...base.foreign_text import whole
from ...errors import CurateError


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
Reader = Callable[[Path], Iterator[RawRow]]


@dataclass(frozen=True, slots=True)
class Source:
    """A data set: where from, a fingerprint of its content, and its rows, as often as asked."""

    name: str
    fingerprint: str
    rows: Callable[[], Iterator[RawRow]]
    count: Callable[[], int | None] = lambda: None
    """The most rows that there may be, where that is cheap to know."""
    licence: str | None = None
    """What the hub has as the data set's licence."""
    _keep: object = field(default=None, repr=False)  # a spooled stdin lives as long as the source


def row_of(place: str, values: Any) -> RawRow:
    """The row that a JSON value is."""
    if not isinstance(values, dict):
        return Unreadable(place, f"not an object but {type(values).__name__}")
    return Row(place, values)


def refuse_repeated(path: Path, names: Iterable[str]) -> None:
    """CurateError where two columns have one name."""
    for name, number in Counter(names).items():
        if number > 1:
            raise CurateError(
                f"{whole(str(path))} has {number} columns named {name!r}: rename them"
            )
