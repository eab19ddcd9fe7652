"""What a report reads of a run: columns, a shard at a time, as Arrow tables."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...base.checksums import read_checked
from ...base.files import intact_parquet
from ...errors import CurateError
from ...records import DECISION_TYPE, SCORE_SCHEMA, SELECTED_SCHEMA, typed
from ...runs.decisions import DecisionFiles
from ...runs.directory import RunDir, student_of
from ...runs.published.arrow_set import batches
from ...runs.selection_names import found_key, selection_keys

_TEXTS = ["instruction", "input", "output"]
_CANDIDATES = pa.schema(
    typed(pa.string(), "id", "candidate", "status", "reason")
    + typed(pa.int64(), "instruction_chars", "response_chars", "shard")
)
RESPONSE_NLLS = ("nll_response", "nll_response_given_instruction", "num_response_tokens")
_SCORES = pa.schema(
    [SCORE_SCHEMA.field(name) for name in ("id", "candidate", "ifd", "rifd", *RESPONSE_NLLS)]
    + [
        SCORE_SCHEMA.field(f"{side}_{about}")
        for side in ("ifd", "rifd")
        for about in ("status", "reason")
    ]
)
_SET = pa.schema(
    [SELECTED_SCHEMA.field(n) for n in ("id", "candidate", "ifd", "rifd", "instruction", "input")]
    + typed(pa.int64(), "instruction_chars", "response_chars")
)
_DECIDED = [
    *("id", "candidate", "reason", "ifd", "rifd", "instruction_chars", "response_chars"),
    *(field.name for field in DECISION_TYPE),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentTables:
    """What one student left in a run; `rows` has none where nothing has been `decided` yet.

    `rows`: id, candidate, ifd, rifd, the fields of the decision, reason, lengths, `selected`; its
    two parts are `kept` and `dropped`. `entry` is the manifest's. `sets` are the selection and the
    baselines: id, candidate, ifd, rifd, instruction, input, and the lengths of the texts.
    """

    key: str
    scoring: Mapping[str, Any]
    entry: Mapping[str, Any]
    scores: pa.Table
    decided: bool
    rows: pa.Table
    kept: pa.Table
    dropped: pa.Table
    sets: Mapping[str, pa.Table]


def candidate_rows(run: RunDir) -> pa.Table:
    """id, candidate, status, reason, lengths of the texts, and the shard, of all candidates."""
    shards = []
    for index, path in enumerate(run.shard_paths()):
        texts = run.shard_table(path, ["id", "candidate", "status", "reason", *_TEXTS])
        table = with_lengths(texts)
        table = table.append_column("shard", pa.array([index] * len(table), pa.int64()))
        shards.append(table.select(_CANDIDATES.names).cast(_CANDIDATES))
    return pa.concat_tables([_CANDIDATES.empty_table(), *shards])


def candidate_texts(run: RunDir, ids: Collection[str], shards: Collection[int]) -> pa.Table:
    """All columns of the candidates of a few records, which are in the given shards."""
    paths = run.shard_paths()
    wanted = pa.array(sorted(ids), pa.string())
    tables = (run.shard_table(paths[index]) for index in sorted(shards))
    return pa.concat_tables([t.filter(pc.is_in(t.column("id"), wanted)) for t in tables])


def student_keys(run: RunDir, wanted: Sequence[str] = ()) -> list[str]:
    """The selections of a run that have scores or rows; of several those wanted alone.

    Raises CurateError for a name that is not there, or not unique.
    """
    keys = selection_keys(run)
    return [found_key(run, name, keys) for name in wanted] or keys


def read_student(run: RunDir, key: str) -> StudentTables:
    """All of one student but the texts."""
    decisions = DecisionFiles.of(run, key)
    decided = decisions.folder.is_dir()
    rows = decisions.table(_DECIDED)
    rows = rows.append_column("selected", pc.is_null(rows.column("reason")))
    entry, folder = run.stage(f"select/{key}") or {}, run.path / "scores" / student_of(key)
    return StudentTables(
        key=key,
        scoring=entry.get("scoring") or read_checked(folder / "config.json") or {},
        entry=entry,
        scores=_scores(folder),
        decided=decided,
        rows=rows,
        kept=rows.filter(rows.column("selected")),
        dropped=rows.filter(pc.invert(rows.column("selected"))),
        sets=dict(_sets(run, key)),
    )


def _sets(run: RunDir, key: str) -> Iterator[tuple[str, pa.Table]]:
    """The baselines, and before them the selection that they are set against."""
    folders = [p for p in sorted((run.path / "baselines" / key).glob("[!.]*")) if p.is_dir()]
    if folders:
        yield "selected", _set(run.path / "selected" / key)
    for folder in folders:
        yield folder.name, _set(folder)


def _scores(folder: Path) -> pa.Table:
    read = partial(intact_parquet, columns=_SCORES.names, remedy="run curate select again")
    tables = map(read, sorted(folder.glob("part-*.parquet")))
    parts = (table.select(_SCORES.names).cast(_SCORES) for table in tables)
    return pa.concat_tables([_SCORES.empty_table(), *parts])


def _set(folder: Path) -> pa.Table:
    try:
        parts = [with_lengths(pa.Table.from_batches([batch])) for batch in batches(folder)]
        return pa.concat_tables(
            [_SET.empty_table(), *(part.select(_SET.names).cast(_SET) for part in parts)]
        )
    except (OSError, KeyError, pa.ArrowException) as error:
        raise CurateError(
            f"cannot read the data set {folder} ({error}): run curate select again"
        ) from None


def with_lengths(table: pa.Table) -> pa.Table:
    """The table with the lengths of its instructions (with input) and responses in characters."""
    instruction, input, output = (pc.utf8_length(table.column(name)) for name in _TEXTS)
    asked = pc.add(instruction, pc.coalesce(input, pa.scalar(0, input.type)))
    lengths = {"instruction_chars": asked, "response_chars": output}
    for name, values in lengths.items():
        table = table.append_column(name, pc.cast(values, pa.int64()))
    return table
