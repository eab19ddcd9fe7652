"""Records -> the token rows that a student is trained on."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from ..config.training import Overlong
from ..errors import CurateError
from ..records import Example
from ..scoring.tokens import Tokenization
from ..templates import Template

IGNORED = -100  # the label that no loss looks at


class Row(Protocol):
    """What is trained on as one; `content` is what identifies it."""

    @property
    def input_ids(self) -> list[int]:
        """All its tokens."""

    @property
    def content(self) -> tuple[Any, ...]:
        """The id and the tokens, as JSON takes them."""


R = TypeVar("R", bound=Row, covariant=True)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """prefix_ids(T(x)) + target_ids(y) + end; a cut response has no end, since it does not end."""

    id: str
    input_ids: list[int]
    prefix_length: int

    @property
    def labels(self) -> list[int]:
        """The response and its end; the prefix is ignored."""
        return [IGNORED] * self.prefix_length + self.input_ids[self.prefix_length :]

    @property
    def content(self) -> tuple[Any, ...]:
        """What identifies the row."""
        return self.id, self.prefix_length, self.input_ids


@dataclass(frozen=True, slots=True)
class TrainingData(Generic[R]):
    """What to train on and to hold out; rows + held out + dropped = the records that came in.

    `left_out` is (id, reason) for each dropped record, `held_out_left_out` the same of a held-out
    set of its own.
    """

    rows: Sequence[R]
    held_out: Sequence[TrainingRow]
    cut: int
    left_out: list[tuple[str, str]]
    held_out_left_out: list[tuple[str, str]]

    @property
    def dropped(self) -> dict[str, int]:
        """How many records came out as no row, by reason."""
        return dict(Counter(reason for _, reason in self.left_out))

    @property
    def held_out_tokens(self) -> int:
        """How many tokens the held-out loss is the mean of."""
        return sum(len(row.input_ids) - row.prefix_length for row in self.held_out)

    @property
    def fingerprint(self) -> str:
        """Changes with any token that is trained on or held out, and with their order."""
        digest = hashlib.sha256()
        for row in chain[Row | None](self.rows, [None], self.held_out):
            digest.update(json.dumps(row and row.content).encode())
        return digest.hexdigest()[:16]


Records = Iterable[Example | Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """How a record becomes a row: T, its tokens, what ends an answer, and the longest row."""

    template: Template
    tokens: Tokenization
    end: Sequence[int]
    max_length: int
    overlong: Overlong = "cut"


def training_data(
    records: Records,
    form: RowFormat,
    *,
    held_out: float = 0,
    seed: int = 0,
    held_out_records: Records | None = None,
) -> TrainingData[TrainingRow]:
    """Tokenise, count what is cut or dropped, and split. CurateError where nothing is left.

    With `held_out_records` nothing is split off: those are held out, cut where too long.
    """
    rows, cut, left_out = _rows(records, form)
    if not rows:
        raise nothing_left(left_out, form.max_length)
    if held_out_records is None:
        return TrainingData(*_split(rows, held_out, seed), cut, left_out, [])
    others, _, missing = _rows(held_out_records, replace(form, overlong="cut"))
    return TrainingData(rows, others, cut, left_out, missing)


def _rows(
    records: Records, form: RowFormat
) -> tuple[list[TrainingRow], int, list[tuple[str, str]]]:
    """The rows, how many of them are cut, and (id, reason) of each record that gives none."""
    rows: list[TrainingRow] = []
    left_out: list[tuple[str, str]] = []
    cut = 0
    for example in map(as_example, records):
        row, outcome = _row(example, form)
        cut += outcome == "cut"
        if row is None:
            left_out.append((example.id, outcome))
        else:
            rows.append(row)
    return rows, cut, left_out


def nothing_left(left_out: Sequence[tuple[str, str]], max_length: int) -> CurateError:
    """The error where no record gives a row."""
    if not left_out:
        return CurateError("the dataset is empty: there is nothing to train on")
    fates = Counter(reason for _, reason in left_out)
    counts = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
    return CurateError(
        f"no record is left to train on at a maximum of {max_length} tokens: {counts}"
    )


def as_example(record: Example | Mapping[str, Any]) -> Example:
    """A row of `selected/` has its system turn, if any, in `messages` only."""
    if isinstance(record, Example):
        return record
    if record.get("instruction") is None or record.get("output") is None:
        raise CurateError(
            "to train on, a row needs the columns instruction and output; "
            f"{record.get('id', 'this one')} has {', '.join(record)}"
        )
    turns = record.get("messages") or []
    return Example(
        id=str(record.get("id") or ""),
        instruction=record["instruction"],
        input=record.get("input") or "",
        output=record["output"],
        system=next((turn["content"] for turn in turns if turn["role"] == "system"), None),
    )


def _row(example: Example, form: RowFormat) -> tuple[TrainingRow | None, str]:
    """The row and what became of it: `whole`, `cut`, or the reason why there is none."""
    prompt = form.template.prompt(example.instruction, example.input, system=example.system)
    prefix, target = form.tokens.prefix_ids(prompt), form.tokens.target_ids(example.output)
    if not target:
        return None, "empty"
    ids = [*prefix, *target, *form.end]
    too_long = len(ids) > form.max_length
    if too_long and (form.overlong == "drop" or len(prefix) >= form.max_length):
        return None, "overlong"
    row = TrainingRow(example.id, ids[: form.max_length], len(prefix))
    return row, "cut" if too_long else "whole"


def _split(
    rows: list[TrainingRow], held_out: float, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Below 1 a fraction (of at least one row), else a count; seed and ids decide which."""
    count = int(held_out) if held_out >= 1 else max(round(held_out * len(rows)), held_out > 0)
    if count >= len(rows):
        raise CurateError(
            f"cannot hold out {count} of {len(rows)} rows: nothing would be trained on"
        )

    def draw(index: int) -> bytes:
        row = rows[index]
        return hashlib.sha256(json.dumps([seed, row.id or row.input_ids]).encode()).digest()

    held = set(sorted(range(len(rows)), key=draw)[:count])
    kept = [row for index, row in enumerate(rows) if index not in held]
    return kept, [rows[index] for index in sorted(held)]
