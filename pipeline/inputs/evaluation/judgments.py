"""Recorded judgements: pairwise reviews in both orders, AlpacaEval's preferences, ratings."""

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import isfile  # unlike Path's, False for a name that is too long
from pathlib import Path
from typing import Any, Literal

from ...base.files import write_json
from ...base.foreign_json import parse_json
from ...errors import CurateError
from ..columns.texts import whole_values
from ..ingest import Intake, Unusable, usable_rows
from ..readers import Row, open_source
from ..readers.text_files import opened

LogKind = Literal["pairs", "preferences", "ratings"]
VERDICTS = "verdicts.json"

_COLUMNS: dict[LogKind, tuple[str, ...]] = {
    "pairs": ("review", "review_reverse"),
    "preferences": ("preference", "generator_1", "generator_2"),
    "ratings": ("judgment", "question_id", "model"),
}


@dataclass(frozen=True, slots=True)
class Log:
    """A file of judgements: what its rows are, the rows, and what it says of them all."""

    kind: LogKind
    rows: list[dict[str, Any]]
    about: Mapping[str, Any]


def read_log(path: Path) -> Log:
    """A log, or the folder that `curate judge --out` wrote.

    Pairs are a JSON object with the rows under `data`, or the rows alone; preferences and ratings
    are lists. Raises CurateError for what is none of these, and for a row without the columns.
    """
    path = path / VERDICTS if isfile(path / VERDICTS) else path
    rows, about = _rows(path)
    if not rows:
        raise CurateError(f"{path} is empty: it has no judgements")
    found = [kind for kind, names in _COLUMNS.items() if set(names) <= rows[0].keys()]
    if not found:
        known = "; ".join(f"{', '.join(names)} ({kind})" for kind, names in _COLUMNS.items())
        raise CurateError(
            f"{path} is no log of judgements: its columns are {', '.join(rows[0]) or 'none'}; "
            f"known are {known}"
        )
    for number, row in enumerate(rows, 1):
        missing = [name for name in _COLUMNS[found[0]] if name not in row]
        if missing:
            raise CurateError(f"{path}, judgement {number}: no {missing[0]!r}")
    return Log(found[0], rows, about)


def holds_verdicts(path: Path) -> bool:
    """Whether a file, or the folder of `curate judge --out`, is a log of pairwise verdicts."""
    if (path / VERDICTS).is_file():
        return True
    first = next(iter(open_source(str(path)).rows()), None)
    if isinstance(first, Row) and "data" not in first.values:
        return set(_COLUMNS["pairs"]) <= first.values.keys()
    return first is not None and _object(path) is not None


def _rows(path: Path) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    found = _object(path)
    if found is None:
        intake = Intake()
        source = open_source(str(path))
        rows = [dict(row) for _, row in usable_rows(source, intake, whole_values)]
        for bad in intake.rejected:
            raise CurateError(f"{bad.place}: {bad.reason}")
        return rows, {}
    data, about = found["data"], found.get("Meta_Info")
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise CurateError(f"{path}: `data` is not a list of judgements")
    return data, about if isinstance(about, dict) else {}


def _object(path: Path) -> dict[str, Any] | None:
    """The file as one JSON object with `data`; None where it is something else."""
    if not isfile(path):
        return None
    try:
        with opened(path) as file:
            if file.read(1) != b"{":
                return None
            value = whole_values(parse_json(b"{" + file.read()))
    except (CurateError, Unusable, ValueError):
        return None  # JSON Lines, or what the reader of rows has a sentence for
    return dict(value) if "data" in value else None


def write_verdicts(path: Path, rows: list[dict[str, Any]], about: Mapping[str, Any]) -> None:
    """Write pairs in the form that `read_log` takes."""
    write_json(path, {"Meta_Info": dict(about), "data": rows})
