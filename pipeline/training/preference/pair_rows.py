"""Preference pairs -> token rows, and for KTO the answers of other prompts beside them."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import CurateError
from ...pair_records import TextPair
from ..rows import Records, RowFormat, TrainingData, held_out_rows, nothing_left

Ids = list[int]


@dataclass(frozen=True, slots=True)
class PairRow:
    """prefix_ids(T(x)), which both sides share, and target_ids(y) + end of each."""

    id: str
    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids

    @property
    def input_ids(self) -> Ids:
        """All its tokens."""
        return self.prompt_ids + self.chosen_ids + self.rejected_ids

    @property
    def content(self) -> tuple[Any, ...]:
        """What identifies the row."""
        return self.id, self.prompt_ids, self.chosen_ids, self.rejected_ids


def preference_data(
    pairs: Iterable[TextPair], form: RowFormat, held_out: Records = ()
) -> TrainingData[PairRow]:
    """Tokenise, and count what is cut or left out. CurateError where no pair is left.

    `held_out` are records to measure the loss of fine-tuning on.
    """
    rows: list[PairRow] = []
    left_out: list[tuple[str, str]] = []
    cut = 0
    for pair in pairs:
        row, outcome = _row(pair, form)
        cut += outcome == "cut"
        if row is None:
            left_out.append((pair.id, outcome))
        else:
            rows.append(row)
    if not rows:
        raise nothing_left(left_out, form.max_length)
    others, missing = held_out_rows(held_out, form)
    return TrainingData(rows, others, cut, left_out, missing)


def _row(pair: TextPair, form: RowFormat) -> tuple[PairRow | None, str]:
    """The row and what became of it: `whole`, `cut`, or the reason why there is none."""
    prompt = form.prefix_ids(pair.prompt)
    targets = [form.tokens.target_ids(text) for text in (pair.chosen, pair.rejected)]
    if not all(targets):
        return None, "empty"
    if targets[0] == targets[1]:
        return None, "identical"
    room = form.max_length - len(prompt)
    wholes = [[*target, *form.end] for target in targets]
    too_long = max(map(len, wholes)) > room
    if room <= 0 or (too_long and form.overlong == "drop"):
        return None, "overlong"
    chosen, rejected = (whole[:room] for whole in wholes)
    if chosen == rejected:
        return None, "identical_once_cut"
    return PairRow(pair.id, prompt, chosen, rejected), "cut" if too_long else "whole"


def answers_elsewhere(
    rows: Sequence[PairRow], *, max_length: int, seed: int
) -> list[tuple[Ids, Ids]]:
    """For KTO's z_0, of each pair: an answer to another prompt, drawn by the seed, for each side.

    y' of log pi(y'|x) is a chosen answer beside a chosen one, and a rejected one beside a rejected
    one; it is cut where it does not fit behind x. CurateError where all prompts are one.
    """
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    found: list[tuple[Ids, Ids]] = [([], [])] * len(rows)
    for place, index in enumerate(order):
        row = rows[index]
        others = (rows[i] for i in (*order[place + 1 :], *order[:place]))
        other = next((one for one in others if one.prompt_ids != row.prompt_ids), None)
        if other is None:
            raise CurateError("--loss kto needs answers to at least two prompts, and here is one")
        room = max_length - len(row.prompt_ids)
        found[index] = other.chosen_ids[:room], other.rejected_ids[:room]
    return found
