"""Evaluation sets that training data must not repeat: every text that they hold."""

from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import CurateError
from ..readers import Source, Unreadable, open_source


def open_sets(names: Sequence[str]) -> list[Source]:
    """The sets, each once; CurateError for one that is not there."""
    return [open_source(name) for name in dict.fromkeys(names)]


def evaluation_texts(source: Source) -> Iterator[tuple[str, str, str]]:
    """Every text of a set, of each column, within lists and objects (chat turns) too.

    With the set's name and the row's place. Raises CurateError for a row that cannot be read, which
    might be the one that is repeated, and when there is no text.
    """
    empty = True
    for row in source.rows():
        if isinstance(row, Unreadable):
            raise CurateError(f"--decontaminate {source.name}: {row.place}: {row.reason}")
        for text in _texts(row.values):
            empty = False
            yield source.name, row.place, text
    if empty:
        raise CurateError(f"--decontaminate {source.name}: no text is in it")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
