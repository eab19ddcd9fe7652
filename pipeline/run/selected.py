"""The selected and the rejected data sets: Arrow folders that `datasets` loads, with a card."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..base.files import replace_folder
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
from .arrow_set import batches, write_tables
from .directory import RunDir

_BATCH = 1000


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


def further(extra: str | None) -> dict[str, Any]:
    """The input's further columns; one that is called like ours becomes `source_<name>`."""
    values = json.loads(extra) if extra else {}
    return {_free(name, values): value for name, value in values.items()}


def _free(name: str, taken: Mapping[str, Any]) -> str:
    if name not in REJECTED_SCHEMA.names:
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

    def fill(new: Path) -> None:
        values = (row.values() for row in rows)
        write_tables(new, (_table(chunk, schema) for chunk in chunks(values, _BATCH)), schema)
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


def _survey(rows: Iterator[SelectedRow]) -> tuple[dict[str, pa.Field], dict[str, Any]]:
    """The types of the further columns, and the counts."""
    types: dict[str, pa.Field] = {}
    kept: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    near_ties = 0
    for chunk in chunks(rows, _BATCH):
        columns: dict[str, list[Any]] = {}
        for row in chunk:
            assert row.decision is not None
            rules[row.decision.filter_rule] += 1
            near_ties += row.decision.near_tie
            if row.reason is None:
                kept[row.kind] += 1
            for name, value in further(row.extra).items():
                columns.setdefault(name, []).append(value)
        for name, values in columns.items():
            types[name] = _wider(types.get(name), pa.field(name, _inferred(values)))
    selected, total = sum(kept.values()), sum(rules.values())
    return types, {
        "selected": selected,
        "rejected": total - selected,
        "by_candidate": dict(kept),
        "by_rule": dict(rules),
        "near_ties": near_ties,
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


def _wider(known: pa.Field | None, found: pa.Field) -> pa.Field:
    if known is None:
        return found
    try:
        schemas = [pa.schema([known]), pa.schema([found])]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.field(known.name, pa.string())


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
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
