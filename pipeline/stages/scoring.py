"""`curate score`: IFD and r-IFD of every candidate of any data set, as one Parquet file."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..base.files import write_atomically
from ..base.progress import Progress, say
from ..config import ScoreConfig
from ..errors import CurateError
from ..inputs.examples import input_identity
from ..inputs.readers import Source, open_source
from ..records import SCORE_SCHEMA, Score, to_table
from ..run.directory import RunDir, is_run
from ..run.importing import import_candidates
from ..run.lock import output_lock
from ..scoring.engine import ScoringEngine
from ..scoring.identity import ScoringIdentity, resolve
from ..scoring.score_files import ScoreFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """The file and how many rows have which status."""

    out: Path
    rows: int
    statuses: dict[str, int]
    already_done: bool = False


def score(config: ScoreConfig) -> ScoreResult:
    """Score everything; what is finished survives in a hidden folder beside the file."""
    data = config.input.data
    source = open_source(f"{data}/candidates" if is_run(data) else data)
    if config.out.is_dir():
        raise CurateError(f"--out {config.out} is a folder; give the name of a Parquet file")
    input = {"command": "score", **input_identity(source, config.input)}
    work = work_folder(config.out, input)
    with output_lock(config.out, "score"):
        try:
            identity = resolve(config.scoring, work / "scores")
            made = {**input, "limit": config.input.limit, "scoring": identity.fields()}
            done = _done_already(config.out, made)
            run = RunDir.create(work, input)
            result = done or _score(config, source, run, identity, made)
        except CurateError:
            if not (work / "scores").exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)
    return result


def work_folder(out: Path, input: Mapping[str, Any]) -> Path:
    """The hidden folder beside the file that holds what is finished for one input."""
    digest = hashlib.sha256(json.dumps(input).encode()).hexdigest()[:8]
    return out.with_name(f".{out.name}.{digest}.work")


def _done_already(out: Path, made: dict[str, Any]) -> ScoreResult | None:
    if not out.exists():
        return None
    try:
        found = json.loads((pq.read_schema(out).metadata or {}).get(b"curate", b"{}"))
    except (OSError, pa.ArrowException, ValueError):
        raise CurateError(
            f"{out} is there and is no file of scores: choose another --out"
        ) from None
    if {**found, "limit": made["limit"]} == made != found:
        return None  # the same job with another limit
    if found != made:
        raise CurateError(
            f"{out} holds scores of another input or configuration: choose another --out"
        )
    table = pq.read_table(out, columns=["ifd_status", "rifd_status"])
    statuses = Counter(s for column in table.columns for s in column.to_pylist() if s)
    return ScoreResult(out=out, rows=table.num_rows, statuses=dict(statuses), already_done=True)


def _score(
    config: ScoreConfig,
    source: Source,
    run: RunDir,
    identity: ScoringIdentity,
    made: dict[str, Any],
) -> ScoreResult:
    import_candidates(run, source, config.input)
    say(f"scoring with {identity.in_words()}")
    scoring = replace(config.scoring, score_all=True)
    statuses: Counter[str] = Counter()
    schema = SCORE_SCHEMA.with_metadata({"curate": json.dumps(made)})

    def write(path: Path) -> None:
        with (
            closing(ScoringEngine(scoring, identity)) as engine,
            pq.ParquetWriter(path, schema, compression="zstd") as writer,
            Progress("score", total=run.num_records, unit="records") as progress,
        ):
            for records, scores in ScoreFiles(run, identity).complete(engine, progress.advance):
                rows = [
                    known.get(kind) or Score(id=candidate.id, candidate=kind)
                    for record, known in zip(records, scores, strict=True)
                    for kind, candidate in record.items()
                ]
                statuses.update(s for row in rows for s in (row.ifd_status, row.rifd_status) if s)
                writer.write_table(to_table(rows, SCORE_SCHEMA).cast(schema))

    write_atomically(config.out, write)
    return ScoreResult(out=config.out, rows=_rows(config.out), statuses=dict(statuses))


def _rows(path: Path) -> int:
    file: pa.NativeFile
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)
