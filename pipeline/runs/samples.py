"""Problems with answers and the replies sampled for them: `problems/` and `samples/` of a run.

Shard n of `samples/` holds the replies to the problems of shard n of `problems/`, problem by
problem.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from ..base.files import count_of, write_parquet
from ..records import to_table, typed
from .directory import RunDir

SampleStatus = Literal["ok", "truncated", "refused", "failed"]
SAMPLE_STATUSES: tuple[SampleStatus, ...] = get_args(SampleStatus)
PROBLEMS, SAMPLES = "problems", "samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question and its given answer; `extra` holds further columns as a JSON object."""

    id: str
    instruction: str
    input: str = ""
    system: str | None = None
    answer: str
    task: str | None = None
    extra: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reply to a problem; None where there is none, with the reason."""

    id: str
    sample: int
    reply: str | None
    status: SampleStatus = "ok"
    reason: str | None = None
    reply_key: str | None = None


@dataclass(frozen=True, slots=True)
class Attempted:
    """A problem with its samples."""

    problem: Problem
    samples: tuple[Sample, ...]


SCHEMAS = {
    PROBLEMS: pa.schema(typed(pa.string(), *Problem.__slots__)),
    SAMPLES: pa.schema(
        [
            *typed(pa.string(), "id"),
            *typed(pa.int64(), "sample"),
            *typed(pa.string(), "reply", "status", "reason", "reply_key"),
        ]
    ),
}


def sample_status(status: str) -> SampleStatus:
    """What a sample is whose reply has been read as this; what is no whole reply is `failed`."""
    return next((known for known in SAMPLE_STATUSES if known == status), "failed")


def shards(run: RunDir, kind: str = PROBLEMS) -> list[Path]:
    """The finished shards of a kind, in order."""
    return sorted((run.path / kind).glob("part-*.parquet"))


def write_shard(run: RunDir, kind: str, index: int, rows: Sequence[Problem | Sample]) -> None:
    """Write a shard of problems, or the samples of one, problem by problem."""
    path = run.path / kind / f"part-{index:05d}.parquet"
    write_parquet(path, to_table(rows, SCHEMAS[kind]))


def num_problems(run: RunDir) -> int:
    """How many problems the run has."""
    return sum(count_of(path) for path in shards(run))


def attempted_problems(run: RunDir, shard: Path) -> list[Attempted]:
    """The problems of a shard, each with its samples; CurateError where a file is damaged."""
    problems = [Problem(**row) for row in run.shard_table(shard).to_pylist()]
    path = run.path / SAMPLES / shard.name
    rows = run.shard_table(path).to_pylist() if path.exists() else []
    samples = (Sample(**row) for row in rows)
    by_id = {id: tuple(group) for id, group in groupby(samples, key=lambda sample: sample.id)}
    return [Attempted(problem, by_id.get(problem.id, ())) for problem in problems]


def all_attempted(run: RunDir) -> Iterator[Attempted]:
    """All problems of a run with their samples, a shard in memory at a time."""
    for shard in shards(run):
        yield from attempted_problems(run, shard)
