"""All records of a selection as lines of JSON beside the page, which searches them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from markupsafe import Markup

from ..base.files import write_atomically
from ..runs.decisions import DecisionFiles
from ..runs.directory import RunDir
from .labels import RULES, VERSIONS
from .numbers.examples import earlier_turns
from .numbers.reading import StudentTables

EMBEDDED = 1_000_000
"""Bytes of records up to which they stand in the page, too."""
_LABELS: Mapping[str, Mapping[str, str]] = {
    "candidate": VERSIONS,
    **{f"{step}_rule": labels for step, labels in RULES.items()},
}
_DECIDED = ("id", *_LABELS, "reason", "ifd", "rifd")
_TEXTS = ("instruction", "input", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsFile:
    """The file's name; the codes to filter by, with labels; the records where they are embedded."""

    name: str
    choices: Mapping[str, Mapping[str, str]]
    embedded: Markup | None


def write_records(run: RunDir, student: StudentTables, path: Path) -> RecordsFile:
    """Write the records that a student decided about."""
    write_atomically(path, lambda temporary: _write(temporary, _records(run, student.key)))
    small = path.stat().st_size <= EMBEDDED
    return RecordsFile(
        name=path.name,
        choices={name: _choices(student, name) for name in _LABELS},
        embedded=inert(path.read_text("utf-8")) if small else None,
    )


def _write(path: Path, records: Iterator[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _records(run: RunDir, key: str) -> Iterator[dict[str, Any]]:
    """What was decided, and the texts before and, where they are others, after; no nulls."""
    for shard, decided in DecisionFiles.of(run, key).shards([*_DECIDED]):
        versions = run.shard_table(shard, ["id", "candidate", *_TEXTS, "history"]).to_pylist()
        texts = {(row["id"], row["candidate"]): _texts(row) for row in versions}
        for row in decided.to_pylist():
            record = _known(row) | {"before": texts.get((row["id"], "original"), {})}
            if row["candidate"] != "original":
                record["after"] = texts.get((row["id"], row["candidate"]), {})
            yield record


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    earlier = {"history": earlier_turns(row["history"])} if row["history"] else {}
    return earlier | _known({name: row[name] or None for name in _TEXTS})


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _choices(student: StudentTables, name: str) -> dict[str, str]:
    codes = pc.unique(student.rows.column(name)).to_pylist()
    return {code: _LABELS[name].get(code, code) for code in sorted(codes)}


def inert(lines: str) -> Markup:
    """JSON as the text of a <script> that is data: nothing in it ends or opens an element.

    >>> inert('{"a": "</script>"}')
    Markup('{"a": "\\\\u003c/script>"}')
    """
    return Markup(lines.replace("<", "\\u003c"))
