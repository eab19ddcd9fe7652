"""Candidates or originals from elsewhere -> the candidate shards of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from ..base.files import write_json, write_json_lines
from ..base.progress import say
from ..config import InputConfig
from ..inputs.candidates import candidate_groups, holds_candidates
from ..inputs.examples import as_original, chunks, read_examples
from ..inputs.ingest import Intake
from ..inputs.readers import Source
from ..records import Candidate
from .directory import RunDir

SHARD = 1000
"""Records in a shard of candidates."""
REJECTED_INPUT = "rejected_input.json"
"""In a run: the input rows that could not be used, with place and reason."""
DUPLICATES = "duplicates.jsonl"
"""In a run: the input rows that repeat an earlier one, each with that one's id."""
NEAR_DUPLICATES = "near_duplicates.jsonl"
"""In a run: the records that `--dedup` left out, each with the one it repeats."""


def originals_of(run: RunDir, intake: Intake) -> Iterator[Candidate]:
    """The originals of a run's records, as its candidates hold them."""
    for group in run.records():
        intake.rows += 1
        if group[0].candidate != "original" or not group[0].valid:
            intake.reject(group[0].id, "no original")
            continue
        intake.records += 1
        yield group[0]


def import_candidates(
    run: RunDir, source: Source, config: InputConfig, *, shard_size: int = SHARD
) -> None:
    """Write the input as candidate shards; does nothing when that is done with this limit."""
    done = run.stage("import")
    if done is not None and done.get("limit") == config.limit:
        return
    if done is not None:
        run.forget_stage("import")  # of another limit: unfinished until it is written anew
    intake = Intake()
    if holds_candidates(source):
        groups = candidate_groups(source, intake, strict=config.strict)
        groups = islice(groups, config.limit)
    else:
        groups = ([as_original(e)] for e in read_examples(source, config, intake))
    records = shards = 0
    for index, chunk in enumerate(chunks(groups, shard_size)):
        records += len(chunk)
        run.write_shard(index, [candidate for group in chunk for candidate in group])
        shards += 1
    for left_over in run.shard_paths()[shards:]:  # of a larger limit
        left_over.unlink()
    write_unused(run.path, intake)
    entry = {"from": source.name, "input": intake.counts(), "records": records}
    run.finish_stage("import", {**entry, "limit": config.limit})


def write_unused(folder: Path, intake: Intake) -> None:
    """List what of the input was not used: the first thousand unusable rows, and all duplicates."""
    if intake.rejected:
        rows = [{"place": row.place, "reason": row.reason} for row in intake.rejected]
        write_json(folder / REJECTED_INPUT, rows)
    for name, left_out in (
        (DUPLICATES, intake.duplicates),
        (NEAR_DUPLICATES, intake.near_duplicates),
    ):
        if left_out:
            write_json_lines(folder / name, map(asdict, left_out))


def say_unused(counts: Mapping[str, int], prefix: str) -> bool:
    """Say which input rows were not used, if any; the lists' names stand behind the prefix."""
    unused, repeated = counts["rejected"], counts["duplicates"]
    if unused:
        say(f"note: input rows not used: {unused}, see {prefix}{REJECTED_INPUT}")
    if repeated:
        say(f"note: input rows that repeat others: {repeated}, see {prefix}{DUPLICATES}")
    return bool(unused or repeated)
