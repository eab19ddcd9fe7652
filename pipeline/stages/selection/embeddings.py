"""Embeddings of instructions by the student itself, kept beside its scores."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...base.files import read_parquet, write_parquet
from ...base.progress import Progress
from ...method.corpus.diversity import Units
from ...records import CandidateKind, user_turn
from ...runs.directory import RunDir
from ...scoring.engine import ScoringEngine
from ...scoring.score_files import ScoreFiles, read_records

Known = dict[str, Units]
"""By the digest of a text."""


def embeddings(
    run: RunDir, files: ScoreFiles, engine: ScoringEngine, wanted: Mapping[str, CandidateKind]
) -> tuple[list[str], Units]:
    """The ids wanted, sorted, and what their candidates' instructions are embedded as [N, D].

    Those that are on disk are not computed again; a file a shard of candidates holds them.
    """
    ids = sorted(wanted)
    found: Known = {}
    digests: dict[str, str] = {}
    with Progress("embed", total=len(ids), unit="records") as progress:
        for shard in run.shard_paths():
            texts = dict(_texts(run, shard, wanted))
            if texts:
                digests |= {id: digest(text) for id, text in texts.items()}
                known = _completed(files.folder / "embeddings" / shard.name, texts, engine)
                found |= {digests[id]: known[digests[id]] for id in texts}
                progress.advance(len(texts))
    return ids, np.stack([found[digests[id]] for id in ids])


def digest(text: str) -> str:
    """A short hash of what is embedded."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _texts(
    run: RunDir, shard: Path, wanted: Mapping[str, CandidateKind]
) -> Iterator[tuple[str, str]]:
    for record in read_records(run, shard):
        for kind, candidate in record.items():
            if wanted.get(candidate.id) == kind:
                yield candidate.id, user_turn(candidate.instruction or "", candidate.input or "")


def _completed(path: Path, texts: Mapping[str, str], engine: ScoringEngine) -> Known:
    """What the file holds, with the embeddings of all these texts."""
    known = _read(path)
    missing = {key: text for text in texts.values() if (key := digest(text)) not in known}
    if missing:
        known |= zip(missing, engine.embed(list(missing.values())), strict=True)
        width = len(next(iter(known.values())))
        flat = pa.array(np.concatenate(list(known.values())))
        columns = {"text": list(known), "embedding": pa.FixedSizeListArray.from_arrays(flat, width)}
        write_parquet(path, pa.table(columns))
    return known


def _read(path: Path) -> Known:
    found = read_parquet(path)
    if found is None:
        return {}
    rows = found[0].column("embedding").combine_chunks()
    matrix = rows.flatten().to_numpy().reshape(len(rows), -1)
    return dict(zip(found[0].column("text").to_pylist(), matrix, strict=True))
