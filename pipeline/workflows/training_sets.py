"""The sets that a comparison trains on: a run's selection, and as many rows chosen otherwise."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..method.corpus.baseline_sampling import of_like_lengths, random_choice, random_subset
from ..records import Candidate, CandidateKind, Example
from ..runs.arrow_set import read_rows
from ..runs.directory import RunDir

Question = tuple[str, str]
"""Instruction and input."""


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


def _valid(run: RunDir) -> Iterator[Candidate]:
    return (candidate for group in run.records() for candidate in group if candidate.valid)


def training_set(pool: Pool, name: str, seed: int) -> Iterator[Example | Mapping[str, Any]]:
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


def split_off(run: RunDir, part: float) -> list[Example]:
    """Originals to hold out, always the same: below 1 a part of all, else a number."""
    ids = [candidate.id for candidate in _valid(run) if candidate.candidate == "original"]
    count = int(part) if part >= 1 else max(round(part * len(ids)), 1)
    held = random_subset(ids, count)
    return [
        _example(candidate)
        for candidate in _valid(run)
        if candidate.candidate == "original" and candidate.id in held
    ]


def asking(run: RunDir, questions: Collection[Question]) -> set[str]:
    """The records of which a version asks one of these questions."""
    return {c.id for c in _valid(run) if (c.instruction or "", c.input or "") in questions}


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
