"""What stands in many Parquet shards, how old they are and how fast they come."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

RECENT = 600.0
"""Seconds: older shards say nothing of today's speed."""


def value_counts(
    paths: Iterable[Path], columns: Sequence[str]
) -> tuple[Counter[tuple[str | None, ...]], int]:
    """How often each combination of values stands in the shards; how many cannot be read."""
    counts: Counter[tuple[str | None, ...]] = Counter()
    damaged = 0
    for path in paths:
        try:
            file: Any
            with pq.ParquetFile(path, read_dictionary=list(columns)) as file:
                table = file.read(list(columns), use_threads=False)
            grouped = table.group_by(list(columns), use_threads=False)
            rows = grouped.aggregate([([], "count_all")]).to_pylist()
        except (OSError, ValueError, KeyError, pa.ArrowException):
            damaged += 1
            continue
        counts.update({tuple(row[name] for name in columns): row["count_all"] for row in rows})
    return counts, damaged


def newest(paths: Iterable[Path]) -> float:
    """When the last of the files was written, in seconds of the epoch; 0 where there is none."""
    found = 0.0
    for path in paths:
        with suppress(OSError):
            found = max(found, path.stat().st_mtime)
    return found


def per_second(paths: Sequence[Path], records: Sequence[int]) -> float | None:
    """Records a second between the first and the last shard written lately, None for one."""
    both = zip(paths, records, strict=True)
    stamped = sorted((newest([path]), number) for path, number in both)
    recent = [(at, number) for at, number in stamped if abs(time.time() - at) < RECENT]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return None
    return sum(number for _, number in recent[1:]) / (recent[-1][0] - recent[0][0])
