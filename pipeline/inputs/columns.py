"""Rows -> the texts of records, by the columns that a data set has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CurateError
from .ingest import Unusable
from .readers import Source
from .texts import optional_text, present, required_text
from .turns import TURNS, conversation_of, system_of

_MISFITS = 100  # so many rows without the columns and none with them: it has other ones
Extract = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The input's column names; None where the usual one is looked for."""

    instruction: str | None = None
    input: str | None = None
    output: str | None = None


class _NoColumns(Unusable):
    """A row without the texts' columns: all the data set, or this row alone."""


class Layout:
    """How a data set names its texts, told from the first row that has them."""

    def __init__(self, source: Source, columns: Columns) -> None:
        self._source, self._columns = source, columns
        self._extract: Extract | None = None
        self._misfits = 0
        self._misfit = ""

    def texts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A row's texts, and under `extra` its further columns.

        Raises Unusable for a row without them, CurateError after many of those and none with them.
        """
        try:
            self._extract = self._extract or self._told(values)
        except _NoColumns as error:
            self._misfits += 1
            self._misfit = self._misfit or str(error)
            if self._misfits >= _MISFITS:
                self.require()
            raise
        return self._extract(values)

    def require(self) -> None:
        """CurateError where rows were there and none had the columns."""
        if self._extract is None and self._misfit:
            raise CurateError(self._misfit)

    def _told(self, row: Mapping[str, Any]) -> Extract:
        columns = self._columns
        named = {
            "instruction": columns.instruction or "instruction",
            "input": columns.input or "input",
            "output": columns.output or "output",
        }
        if named["instruction"] in row and named["output"] in row:
            if columns.input and columns.input not in row:
                raise self._no_columns(row, [columns.input])
            return lambda values: _from_columns(values, named)
        if any(name in row for name in TURNS) and not (columns.instruction or columns.output):
            return _from_turns
        missing = [named[key] for key in ("instruction", "output") if named[key] not in row]
        raise self._no_columns(row, missing)

    def _no_columns(self, row: Mapping[str, Any], missing: list[str]) -> _NoColumns:
        return _NoColumns(
            f"{self._source.name} has no column {' nor '.join(repr(m) for m in missing)}; its "
            f"columns are {', '.join(map(str, row)) or 'none'}. Name them with "
            "--instruction-column, --input-column and --output-column"
        )


def _from_columns(values: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """Alpaca's columns, with those that LLaMA-Factory adds: `system`, `history`, `tools`."""
    texts: dict[str, Any] = {
        "instruction": required_text(values, named["instruction"]),
        "input": optional_text(values, named["input"]) or "",
        "output": required_text(values, named["output"]),
    }
    _refuse_context(values, "history", "tools")
    own = "system" not in named.values()
    if system := (optional_text(values, "system") if own else None) or system_of(values):
        texts["system"] = system
    used = {*named.values(), "id", *(("system",) if own else ())}
    return {**texts, "extra": {k: v for k, v in values.items() if k not in used}}


def _from_turns(values: Mapping[str, Any]) -> dict[str, Any]:
    """The turns of one column, which stays a further one where its turns say more than texts."""
    there = [name for name in TURNS if name in values]
    column = next((name for name in there if values[name] is not None), (there or TURNS)[0])
    _refuse_context(values, "tools")
    found = conversation_of(values.get(column), column)
    used = {"id"} if found.more else {"id", column}
    return {
        "instruction": found.instruction,
        "input": "",
        "output": found.output,
        "system": found.system,
        "extra": {k: v for k, v in values.items() if k not in used},
    }


def _refuse_context(values: Mapping[str, Any], *names: str) -> None:
    """Unusable where a column holds a part of the prompt that no prompt here has."""
    for name in names:
        if present(values, name) not in (None, "", [], "[]", {}):
            raise Unusable(f"it has {name!r}, which no prompt here holds")
