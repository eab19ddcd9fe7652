"""A selection: its student's scores, and the decision if it is made."""

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from ...base.files import read_notes
from ...config import InputConfig
from ...config.options.flat import options_of
from ...runs.directory import RunDir, student_of
from ...runs.shard_counts import RECENT, newest, per_second, value_counts
from .stage_status import StageStatus, command_line, left_of, state_of


def selection(
    run: RunDir, path: str, key: str, total: int | None, working: set[str]
) -> StageStatus:
    """How far it is, of so many records."""
    paths = sorted((run.path / "scores" / student_of(key)).glob("part-*.parquet"))
    notes = [read_notes(path) or {} for path in paths]
    through = [n.get("through", 0) if n.get("purpose") == "decision" else 0 for n in notes]
    found, damaged = value_counts(paths, ["ifd_status", "rifd_status"])
    counts: Counter[str] = Counter()
    for statuses, number in found.items():
        for name in filter(None, statuses):
            counts[name] += number
    entry = run.stage(f"select/{key}")
    lately = not paths or time.time() - newest(paths) < RECENT
    given = next((note["student"] for note in notes if "student" in note), None)
    options = selecting_options(run, key) or {"student": given or "STUDENT"}
    known = StageStatus(
        stage=f"select/{key}",
        state=state_of(finished=entry is not None, working="select" in working and lately),
        done=sum(through),
        total=total,
        failed=counts["failed"],
        damaged_shards=damaged,
        counts=dict(counts),
        student=options["student"],
        command=command_line("select", data=path, **options),
    )
    if entry is not None and known.state == "finished":
        return _decided(run, key, known, entry)
    left = left_of(total, known.done)
    scored = ("scored, not decided yet",) if left == 0 else ()
    return replace(known, left=left, per_second=per_second(paths, through), notes=scored)


def selecting_options(run: RunDir, key: str) -> dict[str, Any]:
    """The options that a selection was last begun with, but for its input's."""
    options = run.selection_options(key) or {}
    return {name: options[name] for name in options if name not in options_of(InputConfig)}


def _decided(run: RunDir, key: str, known: StageStatus, entry: dict[str, Any]) -> StageStatus:
    counts, seconds = entry["counts"], entry.get("seconds")
    notes = [f"{counts['selected']:,} selected, {counts['rejected']:,} rejected"]
    stale = newest(run.shard_paths()) > newest([run.path / "selected" / key / "state.json"])
    if stale:
        notes.append("candidates were made after it: select again")
    return replace(
        known,
        done=counts["records"],
        total=counts["records"],
        left=0,
        per_second=counts["records"] / seconds if seconds else None,
        notes=tuple(notes),
        selected=counts["selected"],
        stale=stale,
    )
