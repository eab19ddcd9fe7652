"""Rows -> candidates, those of an id together."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from ..base.foreign_json import parse_json
from ..base.foreign_text import whole
from ..base.scratch import scratch_database
from ..errors import CurateError
from ..records import CANDIDATE_STATUSES, CANDIDATES, Candidate, candidate_from
from .columns.texts import json_text, optional_text, present, required_text, row_id
from .columns.turns import context_of, history_of
from .ingest import Duplicate, Intake, Unusable, require_records, usable_rows
from .readers import Row, Source

_STORED = [name for name in Candidate.__slots__ if name != "input_row"]


def holds_candidates(source: Source) -> bool:
    """Whether the data set has a `candidate` column, told from its first rows."""
    first = islice((row for row in source.rows() if isinstance(row, Row)), 20)
    return any("candidate" in row.values for row in first)


def candidate_groups(
    source: Source, intake: Intake, *, strict: bool = False
) -> Iterator[list[Candidate]]:
    """The candidates of each id together, ids in the order in which they first appear.

    An id's rows may stand anywhere in the data set: they are sorted on disk. Raises CurateError
    when one (id, candidate) comes with two contents.
    """
    with scratch_database() as database:
        columns = "id text, kind int, row text, place int, primary key (id, kind)"
        database.execute(f"create table c ({columns})")
        database.execute("create table ids (id text primary key, place integer)")
        read = partial(_candidate, intake=intake)
        for place, candidate in usable_rows(source, intake, read, strict=strict):
            _store(database, candidate, place, intake)
        require_records(source, intake)
        yield from _grouped(database)


def _store(database: sqlite3.Connection, candidate: Candidate, place: str, intake: Intake) -> None:
    row = json.dumps([getattr(candidate, name) for name in _STORED])
    kind = CANDIDATES.index(candidate.candidate)
    known = database.execute(
        "select row from c where id = ? and kind = ?", (candidate.id, kind)
    ).fetchone()
    if known is None:
        database.execute("insert into c values (?, ?, ?, ?)", (candidate.id, kind, row, intake.row))
        database.execute("insert or ignore into ids values (?, ?)", (candidate.id, intake.row))
        intake.records += 1
    elif known[0] == row:
        intake.duplicates.append(Duplicate(intake.row, place, candidate.id))
    else:
        raise CurateError(
            f"{place}: the candidate {candidate.candidate!r} of {candidate.id!r} comes with two "
            "different contents"
        )


def _grouped(database: sqlite3.Connection) -> Iterator[list[Candidate]]:
    group: list[Candidate] = []
    ordered = "select row, c.place from c join ids using (id) order by ids.place, c.kind"
    for row, place in database.execute(ordered):
        values = dict(zip(_STORED, json.loads(row), strict=True))
        candidate = candidate_from({**values, "input_row": place})
        if group and group[0].id != candidate.id:
            yield group
            group = []
        group.append(candidate)
    if group:
        yield group


def _candidate(values: Mapping[str, Any], intake: Intake) -> Candidate:
    id, kind = row_id(values), values.get("candidate")
    if id is None:
        raise Unusable("a candidate without an id")
    if kind not in CANDIDATES:
        raise Unusable(f"unknown candidate {kind!r}; known are {', '.join(CANDIDATES)}")
    status = "ok" if values.get("status") is None else values["status"]
    if status not in CANDIDATE_STATUSES:
        raise Unusable(f"unknown status {status!r}")
    known: dict[str, Any] = {
        name: whole(optional_text(values, name) or "") or None
        for name in ("reason", "teacher", "reply_key", "system")
    }
    context = _context(values)
    known["system"] = known["system"] or context.get("system")
    known["history"] = context.get("history", ())
    candidate = Candidate(
        id=id,
        candidate=kind,
        status=status,
        extra=_carried(values) if kind == "original" else None,
        **known,
    )
    return replace(candidate, **_pair_texts(values, intake)) if candidate.valid else candidate


def _context(values: Mapping[str, Any]) -> dict[str, Any]:
    """What came before: a run's own `history`, or that of `messages` beside the columns."""
    history = history_of(present(values, "history"), "history")
    whole_turns = tuple({**turn, "content": whole(turn["content"])} for turn in history)
    return {"history": whole_turns} if history else context_of(values)


def _carried(values: Mapping[str, Any]) -> str | None:
    """The further columns as a JSON object; a run's own shards hold them as one in `extra`."""
    further = {k: v for k, v in values.items() if k not in Candidate.__slots__}
    given = values.get("extra")
    try:
        packed = parse_json(given) if isinstance(given, str) else None
    except ValueError:
        packed = None
    if isinstance(packed, dict):
        further = {**packed, **further}
    elif given is not None:
        further["extra"] = given
    return whole(json_text(further)) if further else None


def _pair_texts(values: Mapping[str, Any], intake: Intake) -> dict[str, Any]:
    texts = {
        "instruction": required_text(values, "instruction"),
        "input": optional_text(values, "input") or "",
        "output": required_text(values, "output"),
    }
    mended = {name: whole(text) for name, text in texts.items()}
    intake.surrogates += sum(mended[name] != texts[name] for name in texts)
    return mended
