"""What a report reads of a run: columns, a shard at a time, as Arrow tables."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..base.files import read_parquet
from ..errors import CurateError
from ..inputs.readers.saved_folders import saved_files
from ..records import DECISION_TYPE
from ..run.directory import RunDir

_TEXTS = ["instruction", "input", "output"]
_COLUMNS = ["id", "candidate", "ifd", "rifd", *_TEXTS, "decision"]
_CANDIDATES = pa.schema(
    [(name, pa.string()) for name in ("id", "candidate", "status", "reason")]
    + [("instruction_chars", pa.int64()), ("response_chars", pa.int64()), ("shard", pa.int64())]
)
_SCORES = pa.schema(
    [("id", pa.string()), ("candidate", pa.string()), ("ifd", pa.float64()), ("rifd", pa.float64())]
    + [
        (f"{side}_{about}", pa.string())
        for side in ("ifd", "rifd")
        for about in ("status", "reason")
    ]
)


_ROWS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "candidate", "reason")),
        *((name, pa.float64()) for name in ("ifd", "rifd")),
        *((name, pa.int64()) for name in ("instruction_chars", "response_chars")),
        *DECISION_TYPE,
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """What one student left in a run; `rows` has none where nothing has been `decided` yet.

    `rows`: id, candidate, ifd, rifd, the fields of the decision, reason, lengths, `selected`; its
    two parts are `kept` and `dropped`. `entry` is the manifest's. `instructions`, and the second
    table of a baseline, are the columns instruction and input.
    """

    key: str
    scoring: Mapping[str, Any]
    entry: Mapping[str, Any]
    scores: pa.Table
    decided: bool
    rows: pa.Table
    kept: pa.Table
    dropped: pa.Table
    instructions: pa.Table
    baselines: Mapping[str, tuple[pa.Table, pa.Table]]


def candidate_rows(run: RunDir) -> pa.Table:
    """id, candidate, status, reason, lengths of the texts, and the shard, of all candidates."""
    shards = []
    for index, path in enumerate(run.shard_paths()):
        table = _measured(run.shard_table(path, ["id", "candidate", "status", "reason", *_TEXTS]))
        shards.append(table.append_column("shard", pa.array([index] * len(table), pa.int64())))
    return pa.concat_tables([_CANDIDATES.empty_table(), *(s.cast(_CANDIDATES) for s in shards)])


def candidate_texts(run: RunDir, ids: Collection[str], shards: Collection[int]) -> pa.Table:
    """All columns of the candidates of a few records, which are in the given shards."""
    paths = run.shard_paths()
    wanted = pa.array(sorted(ids), pa.string())
    tables = (run.shard_table(paths[index]) for index in sorted(shards))
    return pa.concat_tables([t.filter(pc.is_in(t.column("id"), wanted)) for t in tables])


def student_keys(run: RunDir, wanted: str | None = None) -> list[str]:
    """The folders of the students of a run; one of them if it is named, perhaps shortened.

    Raises CurateError for a name that is not there, or not unique.
    """
    scored = [p.parent for p in (run.path / "scores").glob("*/config.json")]
    chosen = [p for p in (run.path / "selected").glob("*") if not p.name.startswith(".")]
    keys = sorted({path.name for path in (*scored, *chosen)})
    if wanted is None:
        return keys
    found = [key for key in keys if key == wanted] or [k for k in keys if k.startswith(wanted)]
    if len(found) != 1:
        what = "begins several students" if found else "is no student"
        raise CurateError(
            f"--selection {wanted!r} {what} of {run.path}: {', '.join(keys) or 'it has none yet'}"
        )
    return found


def read_student(run: RunDir, key: str) -> Student:
    """All of one student but the texts."""
    sets = {name: run.path / name / key for name in ("selected", "rejected")}
    decided = all(folder.is_dir() for folder in sets.values())
    kept = _marked(sets["selected"], selected=True, there=decided)
    dropped = _marked(sets["rejected"], selected=False, there=decided)
    config = run.path / "scores" / key / "config.json"
    entry = run.stage(f"select/{key}") or {}
    return Student(
        key=key,
        scoring=entry.get("scoring") or _json(config),
        entry=entry,
        scores=_scores(run.path / "scores" / key),
        decided=decided,
        rows=pa.concat_tables([kept, dropped]),
        kept=kept,
        dropped=dropped,
        instructions=_instructions(sets["selected"]) if decided else _ROWS.empty_table(),
        baselines={
            folder.name: (_set(folder), _instructions(folder))
            for folder in sorted((run.path / "baselines" / key).glob("*"))
            if not folder.name.startswith(".") and folder.is_dir()
        },
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _scores(folder: Path) -> pa.Table:
    tables = [_SCORES.empty_table()]
    for path in sorted(folder.glob("part-*.parquet")):
        found = read_parquet(path, _SCORES.names)
        if found is None:
            raise CurateError(f"the scores {path} are damaged: run curate select again")
        tables.append(found[0].select(_SCORES.names).cast(_SCORES))
    return pa.concat_tables(tables)


def _marked(folder: Path, *, selected: bool, there: bool) -> pa.Table:
    """The rows of a set, with the column `selected`."""
    table = _set(folder) if there else _ROWS.empty_table()
    return table.append_column("selected", pa.array([selected] * len(table), pa.bool_()))


def _set(folder: Path) -> pa.Table:
    """A set, the decision's fields as columns, the lengths of the texts in their place."""
    table = _read_set(folder)
    decisions = table.column("decision").combine_chunks()
    for field in DECISION_TYPE:
        table = table.append_column(field, pc.struct_field(decisions, field.name))
    if "reason" not in table.column_names:
        table = table.append_column("reason", pa.nulls(len(table), pa.string()))
    return _measured(table).select(_ROWS.names).cast(_ROWS)


def _instructions(folder: Path) -> pa.Table:
    return _read_set(folder).select(["instruction", "input"])


def _read_set(folder: Path) -> pa.Table:
    try:
        tables = []
        for path in saved_files(folder):
            with pa.OSFile(str(path)) as file:
                tables.append(pa.ipc.open_stream(file).read_all())
        whole = pa.concat_tables(tables)
        return whole.select([*_COLUMNS, *({"reason"} & set(whole.column_names))])
    except (OSError, KeyError, pa.ArrowException) as error:
        raise CurateError(
            f"cannot read the data set {folder} ({error}): run curate select again"
        ) from None


def _measured(table: pa.Table) -> pa.Table:
    """The table with the lengths of its texts, in characters, in place of them."""
    instruction, input, output = (pc.utf8_length(table.column(name)) for name in _TEXTS)
    asked = pc.add(instruction, pc.coalesce(input, pa.scalar(0, input.type)))
    lengths = {"instruction_chars": asked, "response_chars": output}
    for name, values in lengths.items():
        table = table.append_column(name, pc.cast(values, pa.int64()))
    return table.drop_columns(_TEXTS)
