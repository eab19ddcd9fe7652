"""A corpus's rows -> documents: one text each, read as it stands, duplicates included."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..base.foreign_text import whole
from ..config import BpcConfig
from .columns.column_names import columns_of, require_column
from .columns.texts import content_id, present, required_text, row_id
from .columns.turns import TURNS, exchanges_of
from .ingest import Intake, usable_rows
from .readers import Source

TEXTS = ("text", "output", "response", "completion")
NO_GROUP = "(none)"


@dataclass(frozen=True, slots=True)
class Text:
    """One document of a corpus; `group` is its value in the column that groups are formed by."""

    id: str
    text: str
    group: str | None = None


def read_texts(source: Source, config: BpcConfig, intake: Intake) -> Iterator[Text]:
    """The corpus's documents in its order; a row without text is counted, or fatal if strict."""
    columns = columns_of(source)
    usual = (*TEXTS, *TURNS)
    column = require_column(source, columns, config.text_column, usual, "--text-column")
    if config.by is not None:
        require_column(source, columns, config.by, (), "--by")

    def read(values: Mapping[str, Any]) -> Text:
        text = whole(_text_of(values, column))
        id = row_id(values) or content_id({"instruction": "", "output": text})
        return Text(id, text, _group_of(values, config.by))

    for _, text in usable_rows(source, intake, read, strict=config.strict):
        intake.records += 1
        yield text
        if config.limit is not None and intake.records >= config.limit:
            return


def _text_of(values: Mapping[str, Any], column: str) -> str:
    """The text; of a conversation, its last answer."""
    if column in TURNS:
        return exchanges_of(values.get(column), column)[-1].output
    return required_text(values, column)


def _group_of(values: Mapping[str, Any], by: str | None) -> str | None:
    if by is None:
        return None
    value = present(values, by)
    return NO_GROUP if value is None else str(value)
