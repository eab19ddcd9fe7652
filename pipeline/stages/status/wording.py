"""A status for a person."""

from collections.abc import Iterator

from ...base.progress import duration, rate_text
from .stage_status import RunStatus, StageStatus


def in_words(found: RunStatus) -> Iterator[str]:
    """Who is at it, a line a stage with what it holds, what to type next."""
    yield f"{found.run}: from {found.data}" if found.data else found.run
    for holder in found.holders:
        state = "alive" if holder.alive else "dead"
        yield (
            f"  `curate {holder.what}`, process {holder.pid} on {holder.host}: {state}, seen "
            f"{holder.seen:.0f} s ago"
        )
    for stage in found.stages:
        yield from _stage_in_words(stage)
    for command in found.next:
        yield f"next: {command}"


def _stage_in_words(stage: StageStatus) -> Iterator[str]:
    about = "about " if stage.about else ""
    total = "" if stage.total is None else f" of {stage.total:,}"
    parts = [f"{about}{stage.done:,}{total} {stage.unit}"]
    if stage.state != "finished":
        parts.append("an unknown number left" if stage.left is None else f"{stage.left:,} left")
    if stage.failed:
        replies = f"replies that cannot be used: {stage.failed:,}"
        parts.append(replies if stage.retryable else f"{stage.failed:,} failed")
    if stage.per_second:
        parts.append(rate_text(stage.per_second))
        if stage.left and stage.state == "running":
            parts.append(f"{duration(stage.left / stage.per_second)} to go")
    if stage.damaged_shards:
        parts.append(f"{stage.damaged_shards} damaged shards, which are made again")
    yield f"{stage.stage}  {stage.state}  " + ", ".join([*parts, *stage.notes])
    if stage.counts:
        counts = (f"{number:,} {name}" for name, number in sorted(stage.counts.items()))
        yield "  " + ", ".join(counts)
