"""The sets that a comparison trains on: a run's selection, and as many rows chosen otherwise.

And preference pairs, where there are some.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...base.progress import say
from ...config import InputConfig
from ...errors import CurateError
from ...inputs.ingest import Intake
from ...inputs.pairs import read_pairs
from ...inputs.readers import open_source
from ...method.corpus.baseline_sampling import (
    length_difference,
    of_like_lengths,
    random_choice,
    random_subset,
)
from ...pair_records import TextPair
from ...records import Candidate, CandidateKind, Example, user_turn
from ...runs.directory import RunDir
from ...runs.published.arrow_set import read_rows
from ...runs.published.baselines import MOST_APART
from ...stages.finetuning import data_set
from ...training.rows import Records, as_example


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What there is to train on; of the rows only ids, lengths and kinds are held.

    Nothing of a record in `held` is in it, in whatever version.
    """

    run: RunDir
    selected: Mapping[str, Path]  # by the sets' names; the first says how large baselines are
    lengths: Mapping[str, int]  # characters of the original responses
    wanted: Mapping[str, int]  # the same of the selected rows
    kinds: Mapping[str, tuple[CandidateKind, ...]]  # the valid versions
    held: frozenset[str]


def pool_of(run: RunDir, selected: Mapping[str, Path], held: Collection[str]) -> Pool:
    """Survey a run and its selections, without the records that are held out."""
    first = next(iter(selected.values()))
    kinds: dict[str, tuple[CandidateKind, ...]] = {}
    lengths: dict[str, int] = {}
    for candidate in _valid(run):
        if candidate.id not in held:
            kinds[candidate.id] = (*kinds.get(candidate.id, ()), candidate.candidate)
            if candidate.candidate == "original":
                lengths[candidate.id] = len(candidate.output or "")
    return Pool(
        run=run,
        selected=selected,
        lengths=lengths,
        wanted={r["id"]: len(r["output"]) for r in read_rows(first) if r["id"] not in held},
        kinds=kinds,
        held=frozenset(held),
    )


def sets_of_like_length(pool: Pool, sets: Sequence[str]) -> tuple[str, ...]:
    """The sets without `length` where the originals are too short or too long for it.

    Which it is depends on no seed, since that decides among equal lengths alone.
    """
    if "length" not in sets:
        return tuple(sets)
    drawn = of_like_lengths(pool.wanted.values(), pool.lengths)
    own, wanted = [pool.lengths[id] for id in drawn], list(pool.wanted.values())
    apart = length_difference(np.array(own, np.int64), np.array(wanted, np.int64))
    if apart <= MOST_APART:
        return tuple(sets)
    say(
        "note: the set `length` is left out: "
        + (
            f"the originals nearest in response length differ by {apart:.0%} of the selection's "
            f"mean, and {MOST_APART:.0%} is allowed"
            if len(own) == len(wanted)
            else f"there are {len(own)} originals for {len(wanted)} selected rows"
        )
    )
    if len(sets) == 1:
        raise CurateError("no set is left to train on: name others with --sets")
    return tuple(name for name in sets if name != "length")


def _valid(run: RunDir) -> Iterator[Candidate]:
    return (candidate for group in run.records() for candidate in group if candidate.valid)


def training_set(pool: Pool, name: str, seed: int) -> Records:
    """The rows of a set, in the input's order; the seed decides what is drawn."""
    if name in pool.selected:
        yield from (row for row in read_rows(pool.selected[name]) if row["id"] not in pool.held)
        return
    chosen = _chosen(pool, name, seed)
    for candidate in _valid(pool.run):
        if chosen.get(candidate.id) == candidate.candidate:
            yield _example(candidate)


def _chosen(pool: Pool, name: str, seed: int) -> dict[str, CandidateKind]:
    """The version of each record that is in a set."""
    size = len(pool.wanted)
    if name == "candidates":
        drawn = random_subset(pool.kinds, size, seed=seed)
        return {id: random_choice(id, pool.kinds[id], seed=seed) for id in drawn}
    if name == "random":
        ids = random_subset(pool.lengths, size, seed=seed)
    elif name == "length":
        ids = of_like_lengths(pool.wanted.values(), pool.lengths, seed=seed)
    else:
        ids = set(pool.lengths)
    return dict.fromkeys(ids, "original")


def held_out_records(
    run: RunDir, data: str | None, part: float
) -> tuple[str, list[Example], set[str]]:
    """What the loss is measured on, and the run's records that none may train on for that."""
    if data is None:
        held_out = split_off(run, part)
        return "originals of the run, held out", held_out, {example.id for example in held_out}
    read = data_set(InputConfig(data=data))
    records = list(map(as_example, read.records))
    held = asking(run, {user_turn(example.instruction, example.input) for example in records})
    if held:
        say(f"note: {len(held)} records ask what a held-out one asks; no set has them")
    return data, records, held


def split_off(run: RunDir, part: float) -> list[Example]:
    """Originals to hold out, always the same: below 1 a part of all, else a number."""
    ids = [candidate.id for candidate in _valid(run) if candidate.candidate == "original"]
    held = _drawn(ids, part)
    return [
        _example(candidate)
        for candidate in _valid(run)
        if candidate.candidate == "original" and candidate.id in held
    ]


def _drawn(ids: Collection[str], part: float) -> set[str]:
    return random_subset(ids, int(part) if part >= 1 else max(round(part * len(ids)), 1))


def asking(run: RunDir, turns: Collection[str]) -> set[str]:
    """The records of which a version asks one of these user's turns."""
    return {candidate.id for candidate in _valid(run) if _turn(candidate) in turns}


def _turn(asked: Candidate | Example) -> str:
    return user_turn(asked.instruction or "", asked.input or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPool:
    """The pairs to train on, and those to measure on, whose prompts no training sees.

    `held` are the records that ask one of these prompts, and the ones that were held out before.
    """

    source: str
    training: Sequence[TextPair]
    held_out: Sequence[TextPair]
    held: frozenset[str]


def pair_pool(
    run: RunDir, path: str, part: float, *, examples: Sequence[Example], held: Collection[str]
) -> PairPool:
    """Split pairs by their prompts: a part of these is drawn, always the same.

    What held-out records ask, in whatever version, is held out as well.
    """
    source, intake = open_source(path), Intake()
    pairs = list(read_pairs(source, intake))
    if intake.num_rejected:
        say(f"note: {intake.num_rejected} rows of {path} are no pairs")
    turns = _drawn({pair.prompt.turn for pair in pairs}, part)
    ids = {*held, *asking(run, turns)}
    turns |= {_turn(candidate) for candidate in _valid(run) if candidate.id in ids}
    turns |= {_turn(example) for example in examples}
    training = [pair for pair in pairs if pair.prompt.turn not in turns]
    if not training:
        raise CurateError(f"every pair of {path} is held out: none is left to train on")
    return PairPool(
        source=source.name,
        training=training,
        held_out=[pair for pair in pairs if pair.prompt.turn in turns],
        held=frozenset(ids | asking(run, turns)),
    )


def chosen_answers(pairs: Iterable[TextPair]) -> Iterator[Example]:
    """The chosen answers as records."""
    for pair in pairs:
        asked = pair.prompt
        yield Example(
            id=pair.id,
            instruction=asked.instruction,
            input=asked.input,
            output=pair.chosen,
            system=asked.system,
            history=tuple(asked.history),
        )


def longer_chosen(pairs: Iterable[TextPair]) -> Iterator[TextPair]:
    """The same pairs with the longer answer chosen; of equally long ones chance, not quality."""
    for pair in pairs:
        shorter, longer = sorted((pair.chosen, pair.rejected), key=lambda text: (len(text), text))
        yield replace(pair, chosen=longer, rejected=shorter)


def _example(candidate: Candidate) -> Example:
    assert candidate.valid
    return Example(
        id=candidate.id,
        instruction=candidate.instruction or "",
        input=candidate.input or "",
        output=candidate.output or "",
        system=candidate.system,
        history=candidate.history,
    )
