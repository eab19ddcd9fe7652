"""Trainings: how many steps are done, by the checkpoints; a comparison, by its trainings."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...base.foreign_json import read_object
from ...base.tables import many
from ...runs.lock import holders
from ...runs.shard_counts import RECENT, newest
from ...training.folder.checkpoints import (
    CHECKPOINTS,
    CLAIM,
    MANIFEST,
    OPTIONS,
    checkpoint_step,
    complete_checkpoints,
)
from .stage_status import StageStatus, command_line, left_of, state_of


def trainings(folder: Path) -> Iterator[StageStatus]:
    """The trainings whose folders are in a folder."""
    for claim in sorted(folder.glob(f"*/{CLAIM}")):
        yield training(claim.parent)


def training(folder: Path) -> StageStatus:
    """One training; the number of its steps is known from its first checkpoint on."""
    begun = read_object(folder / OPTIONS) or {}
    command = begun.get("command", "finetune")
    result = (read_object(folder / MANIFEST) or {}).get("result")
    alive = any(holder.alive for holder in holders(folder))
    known = StageStatus(
        stage=f"{command}/{folder.name}",
        state=state_of(finished=result is not None, working=alive and result is None),
        done=0,
        unit="steps",
        command=_command(command, begun.get("options", {}), folder),
    )
    if result is None:
        return _by_checkpoints(known, complete_checkpoints(folder / CHECKPOINTS))
    steps, seconds = result["steps"], result["seconds"]
    rate = steps / seconds if seconds else None
    rows = (many(result["rows"], "row"),)
    return replace(known, done=steps, total=steps, left=0, notes=rows, per_second=rate)


def _command(command: str, options: dict[str, object], folder: Path) -> str | None:
    """What takes it up; None where it is a part of something larger, or read in memory."""
    if not {"data", "pairs"} & options.keys():
        return None
    return command_line(command, **{**options, "out": folder})


def _by_checkpoints(known: StageStatus, checkpoints: list[Path]) -> StageStatus:
    if not checkpoints:
        return replace(known, notes=("no checkpoint yet",))
    last = checkpoints[-1]
    done = checkpoint_step(last)
    total = (read_object(last / "trainer_state.json") or {}).get("max_steps")
    return replace(
        known, done=done, total=total, left=left_of(total, done), per_second=_rate(checkpoints),
        notes=(f"checkpoint of step {done:,}",),
    )  # fmt: skip


def _rate(checkpoints: list[Path]) -> float | None:
    """Steps a second between the last two checkpoints, if they were written lately."""
    times = [newest([path / "trainer_state.json"]) for path in checkpoints[-2:]]
    if len(times) < 2 or times[1] <= times[0] or time.time() - times[1] > RECENT:
        return None
    before, after = map(checkpoint_step, checkpoints[-2:])
    return (after - before) / (times[1] - times[0])
