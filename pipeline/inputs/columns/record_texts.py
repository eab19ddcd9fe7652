"""Rows -> the texts of records, by the columns that a data set has."""

from collections.abc import Callable, Mapping
from typing import Any

from ...config import InputConfig
from ...errors import CurateError
from ..ingest import Unusable
from ..readers import Source
from .texts import optional_text, present, required_text
from .turns import TURNS, Exchange, context_of, exchanges_of, messages_of_pairs, says_more

_MISFITS = 100  # so many rows without the columns and none with them: it has other ones
Texts = dict[str, Any]
"""A record's texts, its history, and under `extra` the further columns."""
Extract = Callable[[Mapping[str, Any]], list[Texts]]
_ANSWERED = ("prompt", "completion")


class _NoColumns(Unusable):
    """A row without the texts' columns: all the data set, or this row alone."""


class Layout:
    """How a data set names its texts, told from the first row that has them."""

    def __init__(self, source: Source, config: InputConfig) -> None:
        self._source, self._config = source, config
        self._extract: Extract | None = None
        self._misfits = 0
        self._misfit = ""

    def texts(self, values: Mapping[str, Any]) -> list[Texts]:
        """The texts of a row's records: of one, or of each exchange of a conversation.

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
        config = self._config
        named = {
            "instruction": config.instruction_column or "instruction",
            "input": config.input_column or "input",
            "output": config.output_column or "output",
        }
        if named["instruction"] in row and named["output"] in row:
            if config.input_column and config.input_column not in row:
                raise self._no_columns(row, [config.input_column])
            return lambda values: [_from_columns(values, named)]
        if not (config.instruction_column or config.output_column):
            if any(name in row for name in TURNS):
                return lambda values: self._chosen(_from_turns(values))
            if all(name in row for name in _ANSWERED):
                return lambda values: self._chosen(_from_prompt(values))
        missing = [named[key] for key in ("instruction", "output") if named[key] not in row]
        raise self._no_columns(row, missing)

    def _chosen(self, exchanges: list[Texts]) -> list[Texts]:
        return exchanges if self._config.turns == "all" else exchanges[-1:]

    def _no_columns(self, row: Mapping[str, Any], missing: list[str]) -> _NoColumns:
        return _NoColumns(
            f"{self._source.name} has no column {' nor '.join(repr(m) for m in missing)}; its "
            f"columns are {', '.join(map(str, row)) or 'none'}. Name them with "
            "--instruction-column, --input-column and --output-column"
        )


def _from_columns(values: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """Alpaca's columns, with those that LLaMA-Factory adds: `system`, `history`, `tools`."""
    texts: Texts = {
        "instruction": required_text(values, named["instruction"]),
        "input": optional_text(values, named["input"]) or "",
        "output": required_text(values, named["output"]),
    }
    _refuse_tools(values)
    own = {"system", "history"}.difference(named.values())
    texts |= context_of(values, texts["output"])
    if system := optional_text(values, "system") if "system" in own else None:
        texts["system"] = system
    pairs = present(values, "history") if "history" in own else None
    if history := messages_of_pairs(pairs, "history"):
        texts["history"] = history
    used = {*named.values(), "id", *own}
    return {**texts, "extra": {k: v for k, v in values.items() if k not in used}}


def _from_turns(values: Mapping[str, Any]) -> list[Texts]:
    """The exchanges of one column, which is kept where its turns say more than texts."""
    there = [name for name in TURNS if name in values]
    column = next((name for name in there if values[name] is not None), (there or TURNS)[0])
    _refuse_tools(values)
    exchanges = exchanges_of(values.get(column), column)
    used = {"id"} if says_more(values[column]) else {"id", column}
    return _with_further(exchanges, values, used)


def _from_prompt(values: Mapping[str, Any]) -> list[Texts]:
    """`prompt` and `completion`, both texts or both lists of turns."""
    _refuse_tools(values)
    prompt, completion = (values.get(name) for name in _ANSWERED)
    if isinstance(prompt, list) and isinstance(completion, list):
        exchanges = exchanges_of([*prompt, *completion], "prompt and completion")
    else:
        instruction, output = (required_text(values, name) for name in _ANSWERED)
        exchanges = [Exchange(system=None, history=(), instruction=instruction, output=output)]
    return _with_further(exchanges, values, {"id", *_ANSWERED})


def _with_further(
    exchanges: list[Exchange], values: Mapping[str, Any], used: set[str]
) -> list[Texts]:
    extra = {k: v for k, v in values.items() if k not in used}
    return [
        {
            "instruction": one.instruction,
            "input": "",
            "output": one.output,
            "system": one.system,
            "history": one.history,
            "extra": extra,
        }
        for one in exchanges
    ]


def _refuse_tools(values: Mapping[str, Any]) -> None:
    """Unusable where a column holds tools, which no prompt here has."""
    if present(values, "tools") not in (None, "", [], "[]", {}):
        raise Unusable("it has 'tools', which no prompt here holds")
