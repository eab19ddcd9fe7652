"""A data set's records, as an input configuration asks for them, and what identifies them."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ..config import InputConfig
from ..records import Candidate, Example
from .ingest import Columns, Intake, examples, extra_json
from .readers import Source

Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def read_examples(source: Source, config: InputConfig, intake: Intake) -> Iterator[Example]:
    """The records of a data set, as an input configuration asks for them."""
    columns = Columns(
        instruction=config.instruction_column,
        input=config.input_column,
        output=config.output_column,
    )
    return examples(source, columns, intake, strict=config.strict, limit=config.limit)


def as_original(example: Example) -> Candidate:
    """The candidate that a record itself is."""
    return Candidate(
        id=example.id,
        candidate="original",
        instruction=example.instruction,
        input=example.input,
        output=example.output,
        system=example.system,
        extra=extra_json(example),
    )


def input_identity(source: Source, config: InputConfig) -> dict[str, Any]:
    """What of an input may not change when a run is taken up again."""
    named = (config.instruction_column, config.input_column, config.output_column)
    return {"input": source.fingerprint, "columns": list(named)}
