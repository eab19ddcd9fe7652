"""Records -> the token rows that a student is trained on."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from ..config.shared.training import LossOn, Overlong
from ..errors import CurateError
from ..pair_records import Prompt
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
    """prefix_ids(T(h, x)) + target_ids(y) + end; a cut response has no end, as it does not end.

    `earlier` are the stretches of the prefix, as (begin, end), that are answers to train on too.
    `characters` are those of all texts that are trained on; a cut text counts as far as it is kept.
    """

    id: str
    input_ids: list[int]
    prefix_length: int
    characters: int
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def labels(self) -> list[int]:
        """The answers with their ends; all else is ignored."""
        labels = [IGNORED] * len(self.input_ids)
        for begin, end in (*self.earlier, (self.prefix_length, len(self.input_ids))):
            labels[begin:end] = self.input_ids[begin:end]
        return labels

    @property
    def content(self) -> tuple[Any, ...]:
        """What identifies the row."""
        return self.id, self.prefix_length, self.input_ids, *self.earlier


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
    unlike: int = 0
    """Earlier answers that are not trained on: the template writes them otherwise in a history."""

    @property
    def dropped(self) -> dict[str, int]:
        """How many records came out as no row, by reason."""
        return dict(Counter(reason for _, reason in self.left_out))

    @property
    def held_out_tokens(self) -> int:
        """How many tokens the held-out loss is the mean of."""
        return sum(label != IGNORED for row in self.held_out for label in row.labels)

    @property
    def held_out_characters(self) -> int:
        """How many characters of text those tokens are; the ends of the answers have none."""
        return sum(row.characters for row in self.held_out)

    @property
    def fingerprint(self) -> str:
        """Changes with any token that is trained on or held out, and with their order."""
        digest = hashlib.sha256()
        for row in chain[Row | None](self.rows, [None], self.held_out):
            digest.update(json.dumps(row and row.content).encode())
        return digest.hexdigest()[:16]


Record = Example | Mapping[str, Any]
Records = Iterable[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """How a record becomes a row: T, its tokens, what ends an answer, and the longest row."""

    template: Template
    tokens: Tokenization
    end: Sequence[int]
    max_length: int
    overlong: Overlong = "cut"
    loss_on: LossOn = "last"
    """Of a conversation: its last answer, or all of them."""

    def prefix_ids(self, asked: Example | Prompt) -> list[int]:
        """The tokens of T(h, x)."""
        template, system, history = self.template, asked.system, asked.history
        prompt = template.prompt(asked.instruction, asked.input, system=system, history=history)
        return self.tokens.prefix_ids(prompt, template.context(history, system=system))


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
    rows, cut, left_out, unlike = _rows(records, form)
    if not rows:
        raise nothing_left(left_out, form.max_length)
    if held_out_records is None:
        return TrainingData(*_split(rows, held_out, seed), cut, left_out, [], unlike)
    others, missing = held_out_rows(held_out_records, form)
    return TrainingData(rows, others, cut, left_out, missing, unlike)


def held_out_rows(
    records: Records, form: RowFormat
) -> tuple[list[TrainingRow], list[tuple[str, str]]]:
    """Rows to measure on, cut where too long, and (id, reason) of each record that gives none."""
    rows, _, left_out, _ = _rows(records, replace(form, overlong="cut"))
    return rows, left_out


def _rows(
    records: Records, form: RowFormat
) -> tuple[list[TrainingRow], int, list[tuple[str, str]], int]:
    """The rows, how many of them are cut, (id, reason) of each record that gives none, `unlike`."""
    rows: list[TrainingRow] = []
    left_out: list[tuple[str, str]] = []
    cut = unlike = 0
    for example in map(as_example, records):
        row, outcome = _row(example, form)
        cut += outcome == "cut"
        if row is None:
            left_out.append((example.id, outcome))
        else:
            rows.append(row)
            if form.loss_on == "all":
                inside = [end for _, end in row.earlier if end <= row.prefix_length]
                unlike += len(example.history) // 2 - len(inside)
    return rows, cut, left_out, unlike


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
    """A row of `selected/` has its system turn and its history, if any, in `messages` only."""
    if isinstance(record, Example):
        return record
    if record.get("instruction") is None or record.get("output") is None:
        raise CurateError(
            "to train on, a row needs the columns instruction and output; "
            f"{record.get('id', 'this one')} has {', '.join(record)}"
        )
    turns = [dict(turn) for turn in record.get("messages") or []]
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
    return Example(
        id=str(record.get("id") or ""),
        instruction=record["instruction"],
        input=record.get("input") or "",
        output=record["output"],
        system=system,
        history=tuple(turns[:-2]),
    )


def _row(example: Example, form: RowFormat) -> tuple[TrainingRow | None, str]:
    """The row and what became of it: `whole`, `cut`, or the reason why there is none."""
    prefix, target = form.prefix_ids(example), form.tokens.target_ids(example.output)
    if not target:
        return None, "empty"
    ids = [*prefix, *target, *form.end]
    too_long = len(ids) > form.max_length
    if too_long and (form.overlong == "drop" or len(prefix) >= form.max_length):
        return None, "overlong"
    earlier = list(_earlier_answers(example, prefix, form)) if form.loss_on == "all" else []
    cut_off = form.tokens.tokenizer.decode(
        target[form.max_length - len(prefix) :], clean_up_tokenization_spaces=False
    )
    row = TrainingRow(
        example.id,
        ids[: form.max_length],
        len(prefix),
        characters=sum(n for _, n in earlier) + max(len(example.output) - len(cut_off), 1),
        earlier=tuple(stretch for stretch, _ in earlier),
    )
    return row, "cut" if too_long else "whole"


def _earlier_answers(
    example: Example, prefix: list[int], form: RowFormat
) -> Iterator[tuple[tuple[int, int], int]]:
    """Where the history's answers stand in the prefix as they were asked for and would be given.

    Each with its characters.
    """
    history = example.history
    for place in range(0, len(history), 2):
        question, answer = (turn["content"] for turn in history[place : place + 2])
        asked = replace(example, instruction=question, input="", history=history[:place])
        before = form.prefix_ids(asked)
        ids = [*before, *form.tokens.target_ids(answer), *form.end]
        if prefix[: len(ids)] == ids:
            yield (len(before), len(ids)), len(answer)


def _split(
    rows: list[TrainingRow], held_out: float, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Below 1 a fraction (of at least one row), else a count; seed and ids decide which."""
    count = int(held_out) if held_out >= 1 else max(round(held_out * len(rows)), int(held_out > 0))
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
