"""Scores on disk: a Parquet shard for each shard of candidates, filled in where needed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..ahead import ahead
from ..records import SCORE_SCHEMA, Candidate, Score, scores_from, to_table
from ..storage.files import read_parquet, write_json, write_parquet
from ..storage.rundir import RunDir, by_record
from .engine import Record, Scored, ScoringEngine, Wanted
from .identity import ScoringIdentity

# A row's texts, so that a candidate that was reflected again is scored again.
SHARDS_AT_WORK = 2
_SCHEMA = SCORE_SCHEMA.append(pa.field("texts", pa.string()))


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

    def write(self, shard: Path, records: list[Record], scores: list[Scored]) -> None:
        """Write the scores of a shard: a row for each candidate, empty where not scored."""
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
        write_parquet(self.folder / shard.name, table)

    def complete(
        self, engine: ScoringEngine, tick: Callable[[int], None], wanted: Wanted | None = None
    ) -> Iterator[tuple[list[Record], list[Scored]]]:
        """Each shard's records and scores, in order; `tick(records)` after each.

        While one shard is computed, the next is read and tokenised and the one before is written.
        """
        with ThreadPoolExecutor(SHARDS_AT_WORK, "shard") as pool:

            def start(shard: Path) -> Callable[[], tuple[list[Record], list[Scored]]]:
                return pool.submit(self.fill, shard, engine, wanted).result

            for _, (records, scores) in ahead(self.run.shard_paths(), start, SHARDS_AT_WORK):
                tick(len(records))
                yield records, scores

    def fill(
        self, shard: Path, engine: ScoringEngine, wanted: Wanted | None = None
    ) -> tuple[list[Record], list[Scored]]:
        """One shard's records with all the scores that are needed; new ones are written."""
        records = read_records(self.run, shard)
        scores = self.read(shard, records)
        if engine.fill(records, scores, wanted=wanted):
            self.write(shard, records, scores)
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


def read_records(run: RunDir, shard: Path) -> list[Record]:
    """A shard's candidates, a mapping for each record."""
    return [{c.candidate: c for c in group} for group in by_record(run.read_shard(shard))]


def digest(candidate: Candidate) -> str | None:
    """A short hash of the texts that a candidate's scores are of; None without a pair."""
    if not candidate.valid:
        return None
    texts = (candidate.instruction, candidate.input, candidate.output, candidate.system)
    return hashlib.blake2b(repr(texts).encode(), digest_size=8).hexdigest()
