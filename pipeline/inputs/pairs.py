"""Preference pairs in: rows with prompt, chosen and rejected, as we and other tools write them."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..config import InputConfig
from ..pair_records import Prompt, TextPair
from .columns.prompts import id_of, prompt_of
from .columns.texts import whole_values
from .columns.turns import Exchange, exchanges_of
from .ingest import Intake, Unusable, require_records, usable_rows
from .readers import Source

Values = Mapping[str, Any]
_USUAL = InputConfig(data="")
"""The usual names of columns."""


def read_pairs(source: Source, intake: Intake) -> Iterator[TextPair]:
    """The pairs of all rows; unusable rows are counted with the reason.

    The answers are texts, messages, or whole conversations that differ in the last turn. Raises
    CurateError where no row is usable.
    """
    for _, pair in usable_rows(source, intake, lambda values: pair_of(whole_values(values))):
        intake.records += 1
        yield pair
    require_records(source, intake)


def pair_of(values: Values) -> TextPair:
    """A row's pair; Unusable where it is none."""
    chosen, rejected = (_exchange(values, side) for side in ("chosen", "rejected"))
    prompt, other = map(_prompt, (chosen, rejected))
    if prompt != other:
        raise Unusable("chosen and rejected follow different prompts")
    return TextPair(
        id=id_of(values, prompt), prompt=prompt, chosen=chosen.output, rejected=rejected.output
    )


def _exchange(values: Values, side: str) -> Exchange:
    """The answer of one side, and what it follows."""
    said = values.get(side)
    if isinstance(said, str):
        said = [{"role": "assistant", "content": said}]
    if not isinstance(said, list):
        raise Unusable(f"no answer in {side!r}; the columns are {', '.join(values)}")
    if len(said) == 1:
        said = [*prompt_of(values, _USUAL).messages, *said]
    exchanges = exchanges_of(said, side)
    if not exchanges:
        raise Unusable(f"no answer in {side!r}")
    return exchanges[-1]


def _prompt(exchange: Exchange) -> Prompt:
    return Prompt(
        instruction=exchange.instruction, system=exchange.system, history=exchange.history
    )
