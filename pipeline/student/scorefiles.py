"""Scores on disk: a Parquet shard for each shard of candidates, filled in where needed."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

import pyarrow as pa

from ..ahead import ahead
from ..config import ScoringConfig
from ..executors.processes import over_processes
from ..records import SCORE_SCHEMA, Candidate, Score, scores_from, to_table
from ..shares import WHOLE, Share
from ..storage.files import read_notes, read_parquet, write_json, write_parquet
from ..storage.rundir import RunDir, by_record
from .engine import Record, Scored, ScoringEngine, Wanted
from .identity import ScoringIdentity
from .model import pick_devices

# A row's texts, so that a candidate that was reflected again is scored again.
SHARDS_AT_WORK = 2
CHECKPOINT_SECONDS = 30.0
Purpose = Literal["choice", "decision"]
"""The first comparison of the selective schedule alone, or all that a selection compares."""
_SCHEMA = SCORE_SCHEMA.append(pa.field("texts", pa.string()))


def _ignore(_: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """RUN/scores/<student>/."""

    run: RunDir
    identity: ScoringIdentity

    @property
    def folder(self) -> Path:
        """Where the shards lie."""
        return self.run.path / "scores" / self.identity.key

    def read(self, shard: Path, records: list[Record]) -> list[Scored]:
        """The scores of a shard of candidates, as far as they are there and of the same texts."""
        found = read_parquet(self.folder / shard.name)
        if found is None:
            return [{} for _ in records]
        table = found[0]
        texts = table.column("texts").to_pylist()
        known = {
            (score.id, score.candidate, text): score
            for score, text in zip(scores_from(table), texts, strict=True)
        }
        return [
            {
                kind: score
                for kind, candidate in record.items()
                if (score := known.get((candidate.id, kind, digest(candidate)))) is not None
            }
            for record in records
        ]

    def write(self, shard: Path, records: list[Record], scores: list[Scored], **notes: Any) -> None:
        """Write the scores of a shard: a row for each candidate, empty where not scored.

        `notes` are for whoever looks at the file from outside: how far it is, by which student.
        """
        _ = self.run.config
        config = self.folder / "config.json"
        if not config.exists():
            write_json(config, self.identity.fields())
        rows = [
            (known.get(kind) or Score(id=candidate.id, candidate=kind), digest(candidate))
            for record, known in zip(records, scores, strict=True)
            for kind, candidate in record.items()
        ]
        table = to_table((score for score, _ in rows), SCORE_SCHEMA)
        table = table.append_column(_SCHEMA.field("texts"), pa.array([t for _, t in rows]))
        write_parquet(self.folder / shard.name, table, **notes)

    def complete(
        self,
        engine: ScoringEngine,
        tick: Callable[[int], None],
        wanted: Wanted | None = None,
        share: Share = WHOLE,
    ) -> Iterator[tuple[list[Record], list[Scored]]]:
        """Each shard's records and scores, in order; `tick(records)` as they are scored.

        While one shard is computed, the next is read and tokenised and the one before is written.
        """
        shards = self.run.shard_paths(share)
        devices = pick_devices(engine.config.device)
        if len(devices) > 1:
            given = (self.run, self.identity, engine.config, wanted)
            for shard in over_processes(shard_worker, devices, given, shards):
                tick(len(read_records(self.run, shard)))
        report = tick if len(devices) == 1 else _ignore
        stop = Event()
        with ThreadPoolExecutor(SHARDS_AT_WORK, "shard") as pool:

            def start(shard: Path) -> Callable[[], tuple[list[Record], list[Scored]]]:
                return pool.submit(self.fill, shard, engine, wanted, report, stop).result

            try:
                for _, filled in ahead(shards, start, SHARDS_AT_WORK):
                    yield filled
            finally:  # an interrupt must not wait for whole shards
                stop.set()

    def fill(
        self,
        shard: Path,
        engine: ScoringEngine,
        wanted: Wanted | None = None,
        tick: Callable[[int], None] = _ignore,
        stop: Event | None = None,
    ) -> tuple[list[Record], list[Scored]]:
        """One shard's records with all the scores that are needed.

        New ones are written at the end, every half minute on the way there, and when told to stop.
        """
        records = read_records(self.run, shard)
        scores = self.read(shard, records)
        unwritten, written = 0, time.monotonic()

        purpose: Purpose = "decision" if wanted is None else "choice"

        def write(done: int) -> None:
            given = engine.config.student
            self.write(shard, records, scores, student=given, purpose=purpose, through=done)

        for begin in range(0, len(records), engine.window):
            if stop is not None and stop.is_set():
                if unwritten:
                    write(begin)
                return records, scores
            part = slice(begin, begin + engine.window)
            unwritten += engine.fill(records[part], scores[part], wanted=wanted)
            tick(len(records[part]))
            if unwritten and time.monotonic() - written > CHECKPOINT_SECONDS:
                write(begin + len(records[part]))
                unwritten, written = 0, time.monotonic()
        if unwritten or not serves(self.folder / shard.name, purpose, len(records)):
            write(len(records))
        return records, scores

    def noise(self, engine: ScoringEngine) -> float:
        """The rounding noise of a mean NLL here (nats), 0 in float32; measured once, then kept."""
        path = self.folder / "noise.json"
        if self.identity.dtype == "float32":
            return 0.0
        if not path.exists():
            records = read_records(self.run, self.run.shard_paths()[0])
            write_json(path, {"nll_standard_deviation": engine.rounding_noise(records)})
        return float(json.loads(path.read_text("utf-8"))["nll_standard_deviation"])


def shard_worker(
    device: str,
    run: RunDir,
    identity: ScoringIdentity,
    config: ScoringConfig,
    wanted: Wanted | None,
) -> Callable[[Path], None]:
    """What a process on one of several devices does: fill one shard after another."""
    files = ScoreFiles(run, identity)
    engine = ScoringEngine(replace(config, device=device), identity)

    def fill(shard: Path) -> None:
        files.fill(shard, engine, wanted)

    return fill


def serves(path: Path, purpose: Purpose, records: int) -> bool:
    """Whether a file of scores is noted to hold all that so many records need for a purpose."""
    notes = read_notes(path) or {}
    enough = notes.get("purpose") in ("decision", purpose)
    return enough and notes.get("through") == records


def read_records(run: RunDir, shard: Path) -> list[Record]:
    """A shard's candidates, a mapping for each record."""
    return [{c.candidate: c for c in group} for group in by_record(run.read_shard(shard))]


def digest(candidate: Candidate) -> str | None:
    """A short hash of the texts that a candidate's scores are of; None without a pair."""
    if not candidate.valid:
        return None
    texts = (candidate.instruction, candidate.input, candidate.output, candidate.system)
    return hashlib.blake2b(repr(texts).encode(), digest_size=8).hexdigest()
