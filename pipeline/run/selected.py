"""The selected and the rejected data sets: Arrow folders that `datasets` loads, with a card."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..base.files import replace_folder
from ..base.sha256sums import check_sums, write_sums
from ..errors import CurateError
from ..inputs.examples import chunks
from ..records import (
    REJECTED_SCHEMA,
    SELECTED_SCHEMA,
    Candidate,
    CandidateKind,
    Decision,
    Score,
    user_turn,
)
from .directory import RunDir

_BATCH = 1000
_SHARD = 500 << 20
"""Bytes after which another file begins, as `datasets` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedRow:
    """A record's final pair with its decision; `reason` says why it is rejected, None if kept.

    No decision where none was taken: in a baseline.
    """

    id: str
    kind: CandidateKind
    candidate: Candidate | None
    score: Score | None
    decision: Decision | None
    reason: str | None
    extra: str | None

    def values(self) -> dict[str, Any]:
        """The row as its columns have it; further columns come after ours, and yield to them."""
        pair = self.candidate
        texts = {name: getattr(pair, name, None) for name in ("instruction", "input", "output")}
        return {
            "id": self.id,
            **texts,
            "messages": _messages(pair),
            "candidate": self.kind,
            "ifd": self.score.ifd if self.score else None,
            "rifd": self.score.rifd if self.score else None,
            "decision": asdict(self.decision) if self.decision else None,
            "reason": self.reason,
            **further(self.extra),
        }


def further(extra: str | None, schema: pa.Schema = REJECTED_SCHEMA) -> dict[str, Any]:
    """The input's further columns; one that is called like ours becomes `source_<name>`."""
    values = json.loads(extra) if extra else {}
    return {_free(name, values, schema): value for name, value in values.items()}


def _free(name: str, taken: Mapping[str, Any], schema: pa.Schema) -> str:
    if name not in schema.names:
        return name
    free = f"source_{name}"
    while free in taken:  # a selected set that is selected from once more has these already
        free = f"source_{free}"
    return free


def _messages(pair: Candidate | None) -> list[dict[str, str]] | None:
    if pair is None or pair.instruction is None or pair.output is None:
        return None
    system = [{"role": "system", "content": pair.system}] if pair.system else []
    return [
        *system,
        {"role": "user", "content": user_turn(pair.instruction, pair.input or "")},
        {"role": "assistant", "content": pair.output},
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """The two folders and how many rows went where, by branch and by rule.

    `schema` is that of the selected set, further columns included.
    """

    selected: Path
    rejected: Path
    schema: pa.Schema
    counts: dict[str, Any]


def write_sets(
    run: RunDir,
    student: str,
    rows: Callable[[], Iterator[SelectedRow]],
    card: Callable[[Mapping[str, Any]], str],
) -> Sets:
    """Write both data sets from two passes over the rows; `card(counts)` becomes the README."""
    _ = run.config
    types, counts = _survey(rows())
    sets = Sets(
        selected=run.path / "selected" / student,
        rejected=run.path / "rejected" / student,
        schema=pa.schema([*SELECTED_SCHEMA, *types.values()]),
        counts=counts,
    )
    dropped = (row for row in rows() if row.reason is not None)
    write_set(sets.rejected, dropped, pa.schema([*REJECTED_SCHEMA, *types.values()]), None)
    write_set(sets.selected, (r for r in rows() if r.reason is None), sets.schema, card(counts))
    return sets


def write_set(
    folder: Path, rows: Iterable[SelectedRow], schema: pa.Schema, card: str | None
) -> None:
    """Write the rows as a folder that `datasets` loads, with their card if they have one."""
    write_values(folder, (row.values() for row in rows), schema, card)


def write_values(
    folder: Path, rows: Iterator[Mapping[str, Any]], schema: pa.Schema, card: str | None
) -> None:
    """The same of rows that are mappings by the schema's names."""

    def fill(new: Path) -> None:
        _write_arrow(new, rows, schema)
        if card is not None:
            (new / "README.md").write_text(card, "utf-8")

    replace_folder(folder, fill)


def finished_selection(run: RunDir, name: str | None) -> tuple[str, dict[str, Any]]:
    """The only selection of a run, or the one named, and its entry in the manifest.

    Raises CurateError where there is none, several, or one that has not finished.
    """
    found = sorted(p.name for p in (run.path / "selected").glob("[!.]*") if p.is_dir())
    if name is None and len(found) != 1:
        raise CurateError(
            f"{run.path} has several selections: name one with --selection, of {', '.join(found)}"
            if found
            else f"{run.path} has no selection yet: run `curate select` first"
        )
    chosen = name or found[0]
    entry = run.stage(f"select/{chosen}")
    if entry is None:
        have = ", ".join(found) or "none"
        raise CurateError(f"{run.path} has no finished selection {chosen!r}; it has {have}")
    return chosen, entry


def selected_rows(folder: Path, id: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a selected or rejected set; only those of one id if it is given."""
    for batch in batches(folder):
        chosen = batch if id is None else batch.filter(pc.equal(batch.column("id"), id))
        yield from chosen.to_pylist()


def batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """What a set holds, one batch in memory at a time; CurateError when it is damaged."""
    check_sums(folder)
    for path in sorted(folder.glob("*.arrow")):
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def _survey(rows: Iterator[SelectedRow]) -> tuple[dict[str, pa.Field], dict[str, Any]]:
    """The types of the further columns, and the counts."""
    types: dict[str, pa.Field] = {}
    kept: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    near_ties = 0
    for chunk in chunks(rows, _BATCH):
        add_types(types, [further(row.extra) for row in chunk])
        for row in chunk:
            assert row.decision is not None
            rules[row.decision.filter_rule] += 1
            near_ties += row.decision.near_tie
            if row.reason is None:
                kept[row.kind] += 1
    selected, total = sum(kept.values()), sum(rules.values())
    return types, {
        "selected": selected,
        "rejected": total - selected,
        "by_candidate": dict(kept),
        "by_rule": dict(rules),
        "near_ties": near_ties,
    }


def add_types(types: dict[str, pa.Field], rows: Iterable[Mapping[str, Any]]) -> None:
    """Widen the types of further columns by these rows' values."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    for name, values in columns.items():
        types[name] = _wider(types.get(name), pa.field(name, _inferred(values)))


def _inferred(values: list[Any]) -> pa.DataType:
    try:
        type = pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.string()  # of mixed kinds: as JSON text
    return type if _is_plain(type) else pa.string()


def _is_plain(type: pa.DataType, depth: int = 0) -> bool:
    """Whether it is safe to keep: integers of 64 bits with a sign, not nested without end."""
    inner = (type.field(index).type for index in range(type.num_fields))
    return type != pa.uint64() and depth < 32 and all(_is_plain(t, depth + 1) for t in inner)


def _wider(known: pa.Field | None, found: pa.Field) -> pa.Field:
    if known is None:
        return found
    try:
        schemas = [pa.schema([known]), pa.schema([found])]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.field(known.name, pa.string())


def _write_arrow(folder: Path, rows: Iterator[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write what `save_to_disk` would, which reads all of a set through a memory map."""
    import datasets

    datasets.disable_progress_bars()
    empty = datasets.Dataset(schema.empty_table())
    empty.save_to_disk(str(folder), num_shards=1)
    (folder / "data-00000-of-00001.arrow").unlink()
    features = empty.features.arrow_schema.metadata
    number = _write_shards(folder, rows, schema.with_metadata(features))
    names = [f"data-{index:05d}-of-{number:05d}.arrow" for index in range(number)]
    for index, name in enumerate(names):
        (folder / f"{index}.arrow").rename(folder / name)
    state = json.loads((folder / "state.json").read_text("utf-8"))
    state["_data_files"] = [{"filename": name} for name in names]
    state["_fingerprint"] = write_sums(folder)[:16]
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), "utf-8")


def _write_shards(folder: Path, rows: Iterator[Mapping[str, Any]], schema: pa.Schema) -> int:
    """Write the rows as streams of some size, `0.arrow` and so on; one at least. How many."""
    tables = (_table(chunk, schema) for chunk in chunks(rows, _BATCH))
    table: pa.Table | None = next(tables, schema.empty_table())
    number = 0
    while table is not None:
        path = str(folder / f"{number}.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            while table is not None and file.tell() < _SHARD:
                writer.write_table(table)
                table = next(tables, None)
        number += 1
    return number


def _table(rows: list[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = [
        _array([_fitting(row.get(field.name), field) for row in rows], field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _fitting(value: Any, field: pa.Field) -> Any:
    if value is None or not pa.types.is_string(field.type) or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _array(values: list[Any], type: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, type)
    except pa.ArrowInvalid:  # an integer beyond 2**53 in a column that has floats: rounded
        return pa.array(values).cast(type, safe=False)
