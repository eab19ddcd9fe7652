"""The selected and the rejected data sets: Arrow folders that `datasets` loads, with a card."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...base.files import replace_folder
from ...errors import CurateError
from ...records import (
    DECISION_TYPE,
    MESSAGES_TYPE,
    REJECTED_SCHEMA,
    SELECTED_SCHEMA,
    Message,
    conversation,
)
from ..decisions import DecisionFiles
from ..directory import TEMPLATE_COPY, RunDir, student_of
from ..selection_names import found_key
from .arrow_set import write_tables

_TEXTS = ("instruction", "input", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """The two folders and how many rows went where, by candidate and by rule.

    `schema` is that of the selected set, further columns included.
    """

    selected: Path
    rejected: Path
    schema: pa.Schema
    counts: dict[str, Any]


def write_sets(run: RunDir, key: str, card: Callable[[Mapping[str, Any]], str]) -> Sets:
    """Write both data sets from a selection's decisions; `card(counts)` becomes the README."""
    _ = run.config
    decisions = DecisionFiles.of(run, key)
    further = further_columns(run)
    sets = Sets(
        selected=run.path / "selected" / key,
        rejected=run.path / "rejected" / key,
        schema=pa.schema([*SELECTED_SCHEMA, *further]),
        counts=decisions.counts(),
    )
    schema = pa.schema([*REJECTED_SCHEMA, *further])
    write_set(sets.rejected, final_pairs(decisions, schema, selected=False), schema)
    kept = final_pairs(decisions, sets.schema, selected=True)
    write_set(sets.selected, kept, sets.schema, card(sets.counts))
    return sets


def final_pairs(
    decisions: DecisionFiles, schema: pa.Schema, *, selected: bool
) -> Iterator[pa.Table]:
    """The rows of one of the two sets."""
    for shard, decided in decisions.shards():
        rows = decided.filter(pc.equal(pc.is_null(decided.column("reason")), selected))
        if len(rows):
            yield set_rows(decisions.run, shard, rows, schema)


def set_rows(run: RunDir, shard: Path, rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of a set: texts of a shard's candidates beside what was decided of them.

    `rows` has the columns of decisions; without those of the rules `decision` is null.
    """
    candidates = run.shard_table(shard, [*_TEXTS, "system", "history", "extra"])
    pairs = candidates.take(rows.column("row"))
    columns = {
        **{name: rows.column(name) for name in ("id", "candidate", "ifd", "rifd")},
        **{name: pairs.column(name) for name in _TEXTS},
        "messages": _messages(pairs),
        "decision": _decisions(rows),
        **_further(candidates.column("extra").take(rows.column("original_row")), schema),
    }
    if "reason" in schema.names:
        columns["reason"] = rows.column("reason")
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _messages(pairs: pa.Table) -> pa.Array:
    rows = pairs.select([*_TEXTS, "system", "history"]).to_pylist()
    return pa.array(list(map(_conversation, rows)), MESSAGES_TYPE)


def _conversation(row: Mapping[str, Any]) -> list[Message] | None:
    if row["instruction"] is None or row["output"] is None:
        return None
    about = {"input": row["input"] or "", "system": row["system"], "history": row["history"] or ()}
    return conversation([row["instruction"]], [row["output"]], **about)


def _decisions(rows: pa.Table) -> pa.Array:
    if "filter_rule" not in rows.column_names:
        return pa.nulls(len(rows), DECISION_TYPE)
    parts = [rows.column(field.name).combine_chunks() for field in DECISION_TYPE]
    return pa.StructArray.from_arrays(parts, fields=list(DECISION_TYPE))


def write_set(
    folder: Path, tables: Iterable[pa.Table], schema: pa.Schema, card: str | None = None
) -> None:
    """Write tables of this schema as a folder that `datasets` loads, with the card if given."""

    def fill(new: Path) -> None:
        write_tables(new, iter(tables), schema)
        if card is not None:
            (new / "README.md").write_text(card, "utf-8")

    replace_folder(folder, fill)


def finished_selections(run: RunDir, names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The only selection of a run, or those named, with their entries in the manifest."""
    return [finished_selection(run, name) for name in names or (None,)]


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
    chosen = found_key(run, name, found) if name else found[0]
    entry = run.stage(f"select/{chosen}")
    if entry is None:
        raise CurateError(f"the selection {chosen} of {run.path} has not finished: select again")
    return chosen, entry


def scored_template(run: RunDir, name: str, entry: Mapping[str, Any]) -> str:
    """The `--template` that a selection was scored with: a name, or the run's copy of a file."""
    copy = run.path / "scores" / student_of(name) / TEMPLATE_COPY
    return str(copy) if copy.exists() else str(entry["scoring"]["template"])


# --- further columns of the input -----------------------------------------------------------------


def further_columns(run: RunDir) -> list[pa.Field]:
    """The input's further columns, with a type that fits all their values."""
    found = FurtherTypes()
    for shard in run.shard_paths():
        extras = run.shard_table(shard, ["extra"]).column("extra").drop_null()
        found.add(map(further, extras.to_pylist()))
    return found.fields


class FurtherTypes:
    """The types of further columns that keep the values of all rows added."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._inexact: set[str] = set()  # columns with an integer that no float is equal to

    @property
    def fields(self) -> list[pa.Field]:
        """A field a column."""
        return list(itertools.starmap(pa.field, self._types.items()))

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Widen the types so that these rows' values fit."""
        columns: dict[str, list[Any]] = {}
        for row in rows:
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
        for name, values in columns.items():
            found = _inferred(values)
            if found != pa.string() and _has_inexact(values):
                self._inexact.add(name)
            known = self._types.get(name, found)
            wider = _wider(known, found)
            rounds = name in self._inexact and _has_floats(wider) and known != found
            self._types[name] = pa.string() if rounds else wider


def further(extra: str | None, schema: pa.Schema = REJECTED_SCHEMA) -> dict[str, Any]:
    """The further columns of a row; one that is called like ours becomes `source_<name>`."""
    values: dict[str, Any] = json.loads(extra) if extra else {}
    if values.keys().isdisjoint(schema.names):
        return values
    return {_free(name, values, schema): value for name, value in values.items()}


def _free(name: str, taken: Mapping[str, Any], schema: pa.Schema) -> str:
    if name not in schema.names:
        return name
    free = f"source_{name}"
    while free in taken:  # a selected set that is selected from once more has these already
        free = f"source_{free}"
    return free


def _further(extras: pa.ChunkedArray, schema: pa.Schema) -> dict[str, pa.Array]:
    """The columns of the schema that are not ours."""
    fields = [field for field in schema if field.name not in REJECTED_SCHEMA.names]
    return columns_of([further(extra) for extra in extras.to_pylist()], fields) if fields else {}


def columns_of(
    rows: Sequence[Mapping[str, Any]], fields: Iterable[pa.Field]
) -> dict[str, pa.Array]:
    """The rows' values of these fields; where they do not fit into text, as JSON."""
    return {
        field.name: pa.array([_fitting(row.get(field.name), field) for row in rows], field.type)
        for field in fields
    }


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


def _wider(known: pa.DataType, found: pa.DataType) -> pa.DataType:
    schemas = [pa.schema({"": known}), pa.schema({"": found})]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _has_floats(type: pa.DataType) -> bool:
    inner = (type.field(index).type for index in range(type.num_fields))
    return pa.types.is_floating(type) or any(map(_has_floats, inner))


def _has_inexact(value: Any) -> bool:
    """Whether an integer beyond 2**53, which a float would round, is in a JSON value."""
    if isinstance(value, dict | list):
        return any(map(_has_inexact, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and abs(value) > 1 << 53


def _fitting(value: Any, field: pa.Field) -> Any:
    if value is None or not pa.types.is_string(field.type) or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
