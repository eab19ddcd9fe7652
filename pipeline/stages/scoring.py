"""`curate score`: IFD and r-IFD of every candidate of any data set, as one Parquet file."""

import json
import shutil
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..base.files import count_of, read_notes, writable, write_atomically
from ..base.progress import Progress, say
from ..config import ScoreConfig
from ..errors import CurateError, UsageError
from ..inputs.examples import input_identity
from ..inputs.readers import open_source
from ..inputs.readers.files import format_of
from ..method.first_token import FirstTokens
from ..records import SCORE_SCHEMA, Score, to_table
from ..runs.directory import RunDir, is_run, work_folder
from ..runs.importing import DUPLICATES, REJECTED_INPUT, SHARD, import_candidates, say_unused
from ..runs.lock import output_lock
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
    first_token: dict[str, float] | None = None
    """The share of the conditional NLL that first target tokens carry, see `FirstTokens`."""


def score(config: ScoreConfig, *, shard_size: int = SHARD) -> ScoreResult:
    """Score everything; what is finished survives in a hidden folder beside the file.

    What of the input was not used is listed beside it too. `shard_size` is the number of records
    that are worked on at once.
    """
    data = config.input.data
    source = open_source(f"{data}/candidates" if is_run(data) else data)
    if config.out.is_dir():
        raise CurateError(f"--out {config.out} is a folder; give the name of a Parquet file")
    if format_of(config.out.name) not in (None, "parquet"):
        raise UsageError(f"--out {config.out}: scores are written as Parquet; name a .parquet file")
    input = {"command": "score", **input_identity(source, config.input)}
    work = work_folder(config.out, input)
    with output_lock(config.out, "score"):
        try:
            identity = resolve(config.scoring, work / "scores")
            made = {**input, "limit": config.input.limit, "scoring": identity.fields()}
            done = _done_already(config.out, made)
            run = RunDir.create(work, input)
            if done is None:
                import_candidates(run, source, config.input, shard_size=shard_size)
            result = done or _score(config, run, identity, made)
        except CurateError:
            if not (work / "scores").exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)
    return result


def _done_already(out: Path, made: dict[str, Any]) -> ScoreResult | None:
    if not out.exists():
        return None
    found = read_notes(out)
    if found is None:
        raise CurateError(f"{out} is there and is no file of scores: choose another --out")
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
    config: ScoreConfig, run: RunDir, identity: ScoringIdentity, made: dict[str, Any]
) -> ScoreResult:
    say(f"scoring with {identity.in_words()}")
    scoring = replace(config.scoring, score_all=True)
    statuses: Counter[str] = Counter()
    first_tokens = FirstTokens()
    schema = SCORE_SCHEMA.append(pa.field("row", pa.int64()))
    schema = schema.with_metadata({"curate": json.dumps(made)})

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
                for row in rows:
                    first_tokens.add(row)
                numbers = pa.array([c.input_row for r in records for c in r.values()], pa.int64())
                table = to_table(rows, SCORE_SCHEMA).append_column("row", numbers)
                writer.write_table(table.cast(schema))

    write_atomically(config.out, write)
    _list_unused(run, config.out)
    for sentence in first_tokens.in_words(identity.template):
        say(sentence)
    return ScoreResult(
        out=config.out,
        rows=count_of(config.out),
        statuses=dict(statuses),
        first_token=first_tokens.summary(),
    )


def _list_unused(run: RunDir, out: Path) -> None:
    """Put the lists of unused input rows beside the file, in place of an earlier job's."""
    for name in (REJECTED_INPUT, DUPLICATES):
        beside = out.with_name(f"{out.name}.{name}")
        with writable(beside):
            beside.unlink(missing_ok=True)
            if (run.path / name).exists():
                (run.path / name).rename(beside)
    say_unused((run.stage("import") or {})["input"], f"{out}.")
