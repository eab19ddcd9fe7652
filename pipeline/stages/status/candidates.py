"""The stage that made a run's candidates: reflect, or the import of a selection from data."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...inputs.readers.files import count_rows
from ...llm.journal_tail import Growth, growth
from ...records import NO_PAIR, REFLECTIONS, RETRYABLE
from ...runs.directory import RunDir
from ...runs.shard_counts import value_counts
from .stage_status import StageStatus, left_of, state_of


def made_candidates(run: RunDir, working: set[str]) -> StageStatus:
    """How far it is."""
    reflected = run.config["identity"].get("command") == "reflect"
    stage, worker = ("reflect", "reflect") if reflected else ("import", "select")
    entry = run.stage(stage)
    found, damaged = value_counts(run.shard_paths(), ["candidate", "status", "reason"])
    counts: Counter[str] = Counter()
    retryable: Counter[str] = Counter()
    for (kind, made, reason), number in found.items():
        if kind in REFLECTIONS:
            counts[str(made)] += number
            if made in RETRYABLE and reason != NO_PAIR:
                retryable[made] += number
    known = StageStatus(
        stage=stage,
        state=state_of(
            finished=entry is not None,
            working=worker in working and (reflected or entry is None),
        ),
        done=sum(number for (kind, *_), number in found.items() if kind == "original"),
        failed=sum(retryable.values()),
        retryable=dict(retryable),
        damaged_shards=damaged,
        counts=dict(counts),
    )
    if entry is None or known.state == "running":
        return _unfinished(run, known, entry or {})
    unused = (entry.get("input") or {}).get("rejected")
    notes = (f"input rows not used: {unused}",) if unused else ()
    return replace(known, total=entry["records"], left=0, notes=notes)


def _unfinished(run: RunDir, known: StageStatus, entry: Mapping[str, Any]) -> StageStatus:
    """With what is done within shards and the speed, by the journal, and what is left."""
    total = entry.get("records") or _input_rows(run)
    journal = journal_of(run, entry)
    calls = 2 if run.config["identity"].get("schedule") == "selective" else len(REFLECTIONS)
    rate = journal.per_second / calls if journal.per_second else None
    known = with_replies(known, journal, calls, total)
    left = left_of(total, known.done)
    return replace(known, total=total, left=left, per_second=rate)


def journal_of(run: RunDir, entry: Mapping[str, Any]) -> Growth:
    """The replies of the run in its journal, which others may share."""
    folder = run.path / entry.get("journal", _option(run, "journal") or "journal")
    return growth(folder, run=run.config["id"])


def with_replies(known: StageStatus, journal: Growth, calls: int, total: int | None) -> StageStatus:
    """What is done at least where each record takes so many replies."""
    if not journal.replies:
        return known
    most = journal.replies // calls
    done = max(known.done, most if total is None else min(most, total))
    about = "" if journal.exact else "about "
    return replace(
        known,
        done=done,
        about=done > known.done,
        notes=(f"{about}{journal.replies:,} replies in the journal",),
    )


def _input_rows(run: RunDir) -> int | None:
    """How many rows the input has, within the limit."""
    rows, limit = count_rows(str(run.config.get("data"))), _option(run, "limit")
    return min((int(number) for number in (rows, limit) if number is not None), default=None)


def _option(run: RunDir, name: str) -> Any:
    """An option that the run was begun with."""
    return run.config.get("options", {}).get(name)
