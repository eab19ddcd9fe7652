"""A data set's records, each once, and what identifies them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ..base.foreign_text import whole
from ..base.multimap import Multimap
from ..config import InputConfig
from ..errors import CurateError
from ..records import Candidate, Example
from .columns.record_texts import Layout, Texts
from .columns.texts import content_id, json_text, row_id, whole_values
from .ingest import Duplicate, Intake, require_records, usable_rows
from .readers import Source

Item = TypeVar("Item")
_IDENTIFYING = ("instruction", "input", "output", "system", "history")


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
    """The source's records, each once; unusable rows are counted in `intake`, or fatal if strict.

    Raises CurateError when the columns are not found, when no row is usable, and when one id comes
    with two contents.
    """
    seen, layout = Multimap(), Layout(source, config)

    def read(values: Mapping[str, Any]) -> list[Example]:
        records = [_mended(texts, intake) for texts in layout.texts(values)]
        return _named(records, row_id(values), every_exchange=config.turns == "all")

    for place, records in usable_rows(source, intake, read, strict=config.strict):
        intake.rows += len(records) - 1  # an exchange counts as a row
        for example in records:
            if _is_new(example, seen, place):
                intake.records += 1
                yield example
                if config.limit is not None and intake.records >= config.limit:
                    return
            else:
                intake.duplicates.append(Duplicate(example.input_row or 0, place, example.id))
    layout.require()
    require_records(source, intake)


def _mended(texts: Texts, intake: Intake) -> Example:
    """An example with whole characters only, its content as its id.

    Texts that had others are counted.
    """
    mended: Texts = {k: whole(v) if isinstance(v, str) else v for k, v in texts.items()}
    mended["extra"] = whole_values(texts["extra"])
    history = texts.get("history") or ()
    mended["history"] = tuple({**turn, "content": whole(turn["content"])} for turn in history)
    intake.surrogates += sum(mended[k] != texts[k] for k in texts)
    return Example(id=content_id(mended), input_row=intake.row, **mended)


def _named(records: list[Example], id: str | None, *, every_exchange: bool) -> list[Example]:
    """The records with the row's id; those of exchanges are numbered behind it, from 1."""
    name = records[-1].id if id is None else id
    if not every_exchange:
        return [replace(record, id=name) for record in records]
    return [replace(record, id=f"{name}#{k}") for k, record in enumerate(records, 1)]


def _is_new(example: Example, seen: Multimap, place: str) -> bool:
    """Whether an id has not come before. CurateError where it has with another content."""
    # 63 bits of each id and 60 of its texts, whatever their length.
    texts = {k: getattr(example, k) for k in _IDENTIFYING}
    digest = int(content_id(texts)[:15], 16)
    key = int.from_bytes(hashlib.blake2b(example.id.encode(), digest_size=8).digest()) >> 1
    known = seen.get(key)
    if not known:
        seen.add(key, digest)
        return True
    if known[0] != digest:
        raise CurateError(f"{place}: the id {example.id!r} stands for two different contents")
    return False


def as_original(example: Example) -> Candidate:
    """The candidate that a record itself is."""
    return Candidate(
        id=example.id,
        candidate="original",
        instruction=example.instruction,
        input=example.input,
        output=example.output,
        system=example.system,
        history=example.history,
        extra=extra_json(example),
        input_row=example.input_row,
    )


def extra_json(example: Example) -> str | None:
    """The further columns as a JSON object."""
    return json_text(example.extra) if example.extra else None


def input_identity(source: Source, config: InputConfig) -> dict[str, Any]:
    """What of an input may not change when a run is taken up again."""
    named = (config.instruction_column, config.input_column, config.output_column)
    turns = {"turns": config.turns} if config.turns != "last" else {}
    return {"input": source.fingerprint, "columns": list(named), **turns}
