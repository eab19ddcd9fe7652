"""How much a journal holds and how fast it grows, told from its ends: it may be gigabytes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..base.foreign_json import parse_json

_TAIL = 1 << 18
_COUNTED = 64 << 20
_RECENT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Replies in a journal (estimated by its size where not `exact`), and a second lately."""

    replies: int
    exact: bool
    per_second: float | None


def growth(folder: Path, *, run: str = "") -> Growth:
    """Look at a journal that may be written at this moment; an absent one is empty.

    `run`: only at the segments that this run's processes wrote.
    """
    segments = [found for found in _segments(folder) if _begins_with_run(found[0], run)]
    size = sum(bytes for _, bytes in segments)
    tails = [_times(path, bytes) for path, bytes in segments]
    rates = [rate for times, _ in tails if (rate := _rate(times)) is not None]
    exact = size <= _COUNTED
    if exact:
        replies = sum(_lines(path) for path, _ in segments)
    else:
        seen = sum(len(times) for times, _ in tails)
        replies = round(size * seen / max(sum(length for _, length in tails), 1))
    return Growth(replies=replies, exact=exact, per_second=sum(rates) if rates else None)


def _segments(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.glob("[!.]*.jsonl")):
        try:
            yield path, path.stat().st_size
        except OSError:
            continue


def _begins_with_run(path: Path, run: str) -> bool:
    try:
        with path.open("rb") as file:
            return not run or f'"run":"{run}"'.encode() in file.read(200)
    except OSError:
        return False


def _times(path: Path, size: int) -> tuple[list[float], int]:
    """The times of the last whole replies, and the bytes that they take."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - _TAIL))
            tail = file.read(_TAIL)
    except OSError:
        return [], 0
    lines = tail.split(b"\n")[1 if size > _TAIL else 0 : -1]
    times = []
    for line in lines:
        try:
            times.append(float(parse_json(line)["time"]))
        except (ValueError, KeyError, TypeError):
            continue
    return times, sum(len(line) + 1 for line in lines)


def _rate(times: list[float]) -> float | None:
    """Replies a second over the last minute; None where there were less than two.

    Another machine's clock, or this one's since, may be wrong by hours: then it is not known.
    """
    now = time.time()
    recent = [t for t in times if abs(now - t) <= _RECENT]
    span = max(now, *recent) - min(recent) if recent else 0.0
    return len(recent) / max(span, 1e-3) if len(recent) > 1 else None


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0
