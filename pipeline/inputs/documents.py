"""A corpus's rows -> documents: one text each, read as it stands, duplicates included."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import BpcConfig
from ..errors import CurateError
from .columns import columns_of, require_column
from .ingest import Intake, content_id
from .readers import Row, Source

TEXTS = ("text", "output", "response", "completion")
CONVERSATIONS = ("messages", "conversations")
NO_GROUP = "(none)"


@dataclass(frozen=True, slots=True)
class Text:
    """One document of a corpus; `group` is its value in the column that groups are formed by."""

    id: str
    text: str
    group: str | None = None


def read_texts(source: Source, config: BpcConfig, intake: Intake) -> Iterator[Text]:
    """The corpus's documents in its order; a row without text is counted, or fatal if strict."""
    column = _text_column(source, config)
    for row in source.rows():
        if config.limit is not None and intake.records >= config.limit:
            return
        intake.rows += 1
        text = _text_of(row.values, column) if isinstance(row, Row) else None
        if text is None or not isinstance(row, Row):
            reason = f"no text in {column!r}" if isinstance(row, Row) else row.reason
            if config.strict:
                raise CurateError(f"{row.place}: {reason} (--strict)")
            intake.reject(row.place, reason)
            continue
        intake.records += 1
        yield Text(_id_of(row.values, text), text, _group_of(row.values, config.by))


def _text_column(source: Source, config: BpcConfig) -> str:
    """The column named, else the first usual one."""
    columns = columns_of(source)
    if config.by is not None:
        require_column(source, columns, config.by, (), "--by")
    usual = (*TEXTS, *CONVERSATIONS)
    return require_column(source, columns, config.text_column, usual, "--text-column")


def _text_of(values: Mapping[str, Any], column: str) -> str | None:
    """The text with lone surrogates as U+FFFD; of a conversation, its last turn's."""
    value = values.get(column)
    if column in CONVERSATIONS and isinstance(value, list) and value:
        turn = value[-1] if isinstance(value[-1], dict) else {}
        value = turn.get("content", turn.get("value"))
    if not isinstance(value, str):
        return None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _id_of(values: Mapping[str, Any], text: str) -> str:
    given = values.get("id")
    return content_id({"instruction": "", "output": text}) if given in (None, "") else str(given)


def _group_of(values: Mapping[str, Any], by: str | None) -> str | None:
    if by is None:
        return None
    return NO_GROUP if values.get(by) is None else str(values[by])
