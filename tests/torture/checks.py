"""What must hold after every fault, in one place.

Each record is accounted for, the result equals the undisturbed run's, no paid reply was lost and
none was paid twice but those in flight at a kill.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pipeline.records import CANDIDATES

from ..llm.records_asked import journaled
from .server import Served

Row = dict[str, Any]


def accounted_for(run: Path, ids: Iterable[str]) -> None:
    """One row for each id and candidate; where there are selections, each id in one set."""
    wanted = {(id, kind) for id in ids for kind in CANDIDATES}
    rows = Counter((row["id"], row["candidate"]) for row in candidates(run))
    assert rows == Counter(wanted)
    for student in (run / "selected").glob("[!.]*"):
        kept, dropped = (set_rows(run, name, student.name) for name in ("selected", "rejected"))
        assert Counter(row["id"] for row in kept + dropped) == Counter({id for id, _ in wanted})


def same(run: Path, calm: Path) -> None:
    """The run holds what the undisturbed one does: to the bit, but for times and places."""
    assert candidates(run) == candidates(calm)
    assert scores(run) == scores(calm)
    for name in ("selected", "rejected"):
        students = {path.name for path in (calm / name).glob("[!.]*")}
        assert {path.name for path in (run / name).glob("[!.]*")} == students
        for student in students:
            assert set_rows(run, name, student) == set_rows(calm, name, student)
    assert manifest_counts(run) == manifest_counts(calm)


def paid_once(run: Path, server: Served, *, in_flight: int) -> None:
    """All that the server was asked is in the journal; so many requests may have come again."""
    asked = server.counts()
    assert set(asked) == journaled(run / "journal")
    again = sum(asked.values()) - len(asked)
    assert again <= in_flight, f"{again} requests were asked again, {in_flight} were in flight"


def not_asked_again(server: Served, begin: int, kept: set[str]) -> None:
    """Of what was in the journal nothing was asked from the begin-th request on."""
    again = set(server.asked(begin)) & kept
    assert not again, f"{len(again)} journaled replies were asked again"


def candidates(run: Path) -> list[Row]:
    """All rows of all shards."""
    return _rows(sorted((run / "candidates").glob("part-*.parquet")))


def scores(run: Path) -> list[Row]:
    """All rows of all students' scores, with each float as its bits."""
    found = _rows(sorted((run / "scores").glob("*/part-*.parquet")))
    return [{name: _bits(value) for name, value in row.items()} for row in found]


def set_rows(run: Path, name: str, student: str) -> list[Row]:
    """A selected or rejected set, as a user loads it."""
    found = datasets.load_from_disk(str(run / name / student))
    assert isinstance(found, datasets.Dataset)
    return [dict(row) for row in found.to_list()]


def manifest_counts(run: Path) -> Row:
    """What the manifest counts, but times and how many sequences this invocation computed."""
    stages = json.loads((run / "manifest.json").read_text("utf-8"))["stages"]
    passing = ("seconds", "journal", "damaged_journal_lines", "tokens", "cost_usd", "from")
    kept = {name: {k: v for k, v in entry.items() if k not in passing}
            for name, entry in stages.items()}  # fmt: skip
    for entry in kept.values():
        entry.get("counts", {}).pop("sequences", None)
    return kept


def _rows(paths: list[Path]) -> list[Row]:
    tables: list[pa.Table] = [pq.ParquetFile(path).read() for path in paths]
    return [row for table in tables for row in table.to_pylist()]


def _bits(value: Any) -> Any:
    return value.hex() if isinstance(value, float) else value
