"""Records -> the token rows that a student is trained on, and its loss on such rows."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from ..config.training import Overlong
from ..errors import CurateError
from ..records import Example
from ..templates import Template

IGNORED = -100  # the label that no loss looks at
BATCH_TOKENS = (
    4096  # of one forward pass in `response_loss`: its [tokens, vocabulary] logits are held
)


class Tokens(Protocol):
    """The tokens that scoring uses; training must see the very same ones."""

    @property
    def eos_id(self) -> int | None:
        """The token that ends a response."""

    def prefix_ids(self, prompt: str) -> list[int]:
        """Up to where the response starts, with the special tokens in front."""

    def target_ids(self, text: str) -> list[int]:
        """A response, with the space between prompt and response, without special tokens."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """prefix_ids(T(x)) + target_ids(y) + EOS; a cut response has no EOS, since it does not end."""

    id: str
    input_ids: list[int]
    prefix_length: int

    @property
    def labels(self) -> list[int]:
        """The response and its EOS; the prefix is ignored."""
        return [IGNORED] * self.prefix_length + self.input_ids[self.prefix_length :]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What to train on and to hold out; rows + held out + dropped = the records that came in."""

    rows: list[TrainingRow]
    held_out: list[TrainingRow]
    cut: int
    dropped: dict[str, int]

    @property
    def held_out_tokens(self) -> int:
        """How many tokens the held-out loss is the mean of."""
        return sum(len(row.input_ids) - row.prefix_length for row in self.held_out)

    @property
    def fingerprint(self) -> str:
        """Changes with any token that is trained on or held out, and with their order."""
        digest = hashlib.sha256()
        for row in chain(self.rows, [None], self.held_out):
            content = (row.id, row.prefix_length, row.input_ids) if row else None
            digest.update(json.dumps(content).encode())
        return digest.hexdigest()[:16]


def training_data(
    records: Iterable[Example | Mapping[str, Any]],
    *,
    template: Template,
    tokens: Tokens,
    max_length: int,
    overlong: Overlong = "cut",
    held_out: float = 0,
    seed: int = 0,
    held_out_records: Iterable[Example | Mapping[str, Any]] | None = None,
) -> TrainingData:
    """Tokenise, count what is cut or dropped, and split. CurateError where nothing is left.

    With `held_out_records` nothing is split off: those are held out, cut where too long.
    """
    if tokens.eos_id is None:
        raise CurateError("the tokenizer has no end-of-sequence token, so no answer could end")
    rows: list[TrainingRow] = []
    fates: Counter[str] = Counter()
    for record in records:
        row, fate = _row(_example(record), template, tokens, max_length, overlong)
        fates[fate] += 1
        rows += [row] if row else []
    cut, _ = fates.pop("cut", 0), fates.pop("whole", 0)
    if not rows:
        raise CurateError(_nothing_left(fates, max_length))
    if held_out_records is None:
        kept, held = _split(rows, held_out, seed)
        return TrainingData(kept, held, cut, dict(fates))
    made = (_row(_example(r), template, tokens, max_length, "cut") for r in held_out_records)
    return TrainingData(rows, [row for row, _ in made if row], cut, dict(fates))


def _nothing_left(fates: Mapping[str, int], max_length: int) -> str:
    if not fates:
        return "the dataset is empty: there is nothing to train on"
    counts = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
    return f"no record is left to train on at a maximum of {max_length} tokens: {counts}"


def _example(record: Example | Mapping[str, Any]) -> Example:
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


def _row(
    example: Example, template: Template, tokens: Tokens, max_length: int, overlong: Overlong
) -> tuple[TrainingRow | None, str]:
    """The row and what became of it: `whole`, `cut`, or the reason why there is none."""
    assert tokens.eos_id is not None
    prompt = template.prompt(example.instruction, example.input, system=example.system)
    prefix, target = tokens.prefix_ids(prompt), tokens.target_ids(example.output)
    if not target:
        return None, "empty"
    ids = [*prefix, *target, tokens.eos_id]
    too_long = len(ids) > max_length
    if too_long and (overlong == "drop" or len(prefix) >= max_length):
        return None, "overlong"
    row = TrainingRow(example.id, ids[:max_length], len(prefix))
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


def response_loss(
    model: Any, rows: Sequence[TrainingRow], *, batch_tokens: int = BATCH_TOKENS
) -> tuple[float, int]:
    """The mean NLL (nats) of a trained-on token, EOS included, and the number of those tokens."""
    import torch

    assert rows, "a loss over nothing is not a number"
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in _batches(rows, batch_tokens):
            ids, mask, labels = (tensor.to(device) for tensor in _padded(batch))
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(),
                labels[:, 1:].flatten(),
                ignore_index=IGNORED,
                reduction="sum",
            ).item()
            count += int((labels[:, 1:] != IGNORED).sum())
    model.train(was_training)
    return total / count, count


def _batches(rows: Sequence[TrainingRow], batch_tokens: int) -> Iterator[list[TrainingRow]]:
    """Longest first, so that running out of memory comes at once."""
    batch: list[TrainingRow] = []
    for row in sorted(rows, key=lambda row: len(row.input_ids), reverse=True):
        if batch and (len(batch) + 1) * len(batch[0].input_ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _padded(batch: list[TrainingRow]) -> tuple[Any, Any, Any]:
    """ids, attention mask, labels: [rows, longest], filled on the right."""
    import torch

    width = len(batch[0].input_ids)

    def filled(values: list[int], filler: int) -> list[int]:
        return values + [filler] * (width - len(values))

    return (
        torch.tensor([filled(row.input_ids, 0) for row in batch]),
        torch.tensor([filled([1] * len(row.input_ids), 0) for row in batch]),
        torch.tensor([filled(row.labels, IGNORED) for row in batch]),
    )
