"""Scores on disk: a Parquet shard for each shard of candidates, filled in where needed."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from platform import node
from threading import Event
from typing import Any, Literal

import pyarrow as pa

from ..base.checksums import read_checked, with_checksum
from ..base.files import read_notes, read_parquet, write_json, write_parquet, write_text
from ..base.processes.prefetch import prefetch
from ..base.processes.sharding import WHOLE, Share
from ..config import ScoringConfig
from ..errors import CurateError
from ..executors.processes import over_processes
from ..executors.ray_cluster import over_ray
from ..method.decision import first_comparison
from ..models.devices import pick_devices
from ..records import SCORE_SCHEMA, Candidate, Score, scores_from, to_table
from ..runs.directory import TEMPLATE_COPY, RunDir, by_record, is_run
from .engine import Record, Scored, ScoringEngine, Wanted
from .identity import ScoringIdentity, note_identity

# A row's texts, so that a candidate that was reflected again is scored again.
SHARDS_AT_WORK = 2
CHECKPOINT_SECONDS = 30.0
NETWORK_SECONDS = 60
NEIGHBOURS = "neighbour_noise.json"
NOISE = "nll_standard_deviation"
NOT_SHARED = "all nodes must see the run on one file system, under the same path"
Work = Callable[..., Iterator[Path]]
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
        note_identity(self.folder, self.identity)
        shards = self.run.shard_paths(share)
        work = workers_of(engine.config)
        if work is not None:
            self._fill_by(work, shards, engine, wanted, tick)
        report = tick if work is None else _ignore
        stop = Event()
        with ThreadPoolExecutor(SHARDS_AT_WORK, "shard") as pool:

            def start(shard: Path) -> Callable[[], tuple[list[Record], list[Scored]]]:
                return pool.submit(self.fill, shard, engine, wanted, report, stop).result

            try:
                for _, filled in prefetch(shards, start, SHARDS_AT_WORK):
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

        purpose: Purpose = "choice" if wanted is first_comparison else "decision"

        def write(done: int) -> None:
            notes = {"student": engine.config.student, "purpose": purpose, "through": done}
            if engine.smaller_rows:  # after an out-of-memory, which changes last bits
                notes["rows_of_tokens"] = engine.smaller_rows
            self.write(shard, records, scores, **notes)
            if engine.neighbour_noise:
                _note_noise(self.folder / NEIGHBOURS, engine.neighbour_noise)
            if engine.template.chat is not None and engine.template.name == "file":
                write_text(self.folder / TEMPLATE_COPY, engine.template.chat.source)

        window = engine.window
        for begin in range(0, len(records), window):
            if stop is not None and stop.is_set():
                if unwritten:
                    write(begin)
                return records, scores
            part = slice(begin, begin + window)
            unwritten += engine.fill(records[part], scores[part], wanted=wanted)
            tick(len(records[part]))
            if unwritten and time.monotonic() - written > CHECKPOINT_SECONDS:
                write(begin + len(records[part]))
                unwritten, written = 0, time.monotonic()
        if unwritten or not serves(self.folder / shard.name, purpose, len(records)):
            write(len(records))
        return records, scores

    def _fill_by(
        self,
        work: Work,
        shards: Sequence[Path],
        engine: ScoringEngine,
        wanted: Wanted | None,
        tick: Callable[[int], None],
    ) -> None:
        """Let workers fill the shards that lack a score; they write here themselves."""
        lacking = []
        for shard in shards:
            if self._lacks(shard, engine, wanted):
                lacking.append(shard)
            else:
                tick(len(read_records(self.run, shard)))
        given = (self.run, self.run.config["id"], self.identity, engine.config, wanted)
        for shard in work(setup=shard_worker, arguments=given, items=lacking):
            wait_for(self.folder / shard.name)
            tick(len(read_records(self.run, shard)))

    def _lacks(self, shard: Path, engine: ScoringEngine, wanted: Wanted | None) -> bool:
        if not (self.folder / shard.name).exists():
            return True
        records = read_records(self.run, shard)
        return engine.lacks(records, self.read(shard, records), wanted)

    def noise(self, engine: ScoringEngine) -> float:
        """The rounding noise of a mean NLL here (nats); that of half precision is measured once.

        In float32 there is none but what neighbours in a row change, which no dense model shows.
        """
        path = self.folder / "noise.json"
        neighbours = noted_noise(self.folder / NEIGHBOURS) or 0.0
        if self.identity.dtype == "float32":
            return neighbours
        first, work = self.run.shard_paths()[0], workers_of(engine.config)
        noise = noted_noise(path)
        if noise is None and work is not None:  # on a device that scores
            given = (self.run, self.identity, engine.config)
            for _ in work(setup=noise_worker, arguments=given, items=[first]):
                wait_for(path)
            noise = noted_noise(path)
        elif noise is None:
            noise = engine.rounding_noise(read_records(self.run, first))
            _note_noise(path, noise)
        return max(neighbours, noise or 0.0)


def noted_noise(path: Path) -> float | None:
    """The noise of a mean NLL (nats) that a file holds; None where it is absent or damaged."""
    found = (read_checked(path) or {}).get(NOISE)
    return float(found) if isinstance(found, int | float) else None


def _note_noise(path: Path, noise: float) -> None:
    write_json(path, with_checksum({NOISE: noise}))


def workers_of(config: ScoringConfig) -> Work | None:
    """Who fills shards in place of this process, given `setup`, `arguments`, `items`."""
    if config.executor == "ray":
        return partial(over_ray, device=config.device, workers=config.workers)
    devices = pick_devices(config.device)
    return partial(over_processes, devices=devices) if len(devices) > 1 else None


def shard_worker(
    device: str,
    run: RunDir,
    id: str,
    identity: ScoringIdentity,
    config: ScoringConfig,
    wanted: Wanted | None,
) -> Callable[[Path], None]:
    """What a worker on one of several devices does: fill one shard after another."""
    if not is_run(run.path) or run.config["id"] != id:
        raise CurateError(f"{node()} does not see the run {run.path}: {NOT_SHARED}")
    files, engine = ScoreFiles(run, identity), _engine_on(device, config, identity)

    def fill(shard: Path) -> None:
        files.fill(shard, engine, wanted)

    return fill


def noise_worker(
    device: str, run: RunDir, identity: ScoringIdentity, config: ScoringConfig
) -> Callable[[Path], None]:
    """What one does to measure the rounding noise."""
    files, engine = ScoreFiles(run, identity), _engine_on(device, config, identity)

    def measure(_: Path) -> None:
        files.noise(engine)

    return measure


def _engine_on(device: str, config: ScoringConfig, identity: ScoringIdentity) -> ScoringEngine:
    here = replace(config, device=device, executor="local", workers=None)
    return ScoringEngine(here, identity)


def wait_for(path: Path) -> None:
    """Return when a file of another machine's is seen, which a network file system may delay."""
    for _ in range(NETWORK_SECONDS):
        if path.exists():
            return
        time.sleep(1)
    raise CurateError(f"{path} was written elsewhere and is not seen here: {NOT_SHARED}")


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
    texts: tuple[Any, ...] = (candidate.instruction, candidate.input, candidate.output)
    texts += (candidate.system, *candidate.history)
    return hashlib.blake2b(repr(texts).encode(), digest_size=8).hexdigest()
