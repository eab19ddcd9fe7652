"""Raw rows -> Examples or Candidates: columns, ids, duplicates, and a count of all that left."""

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..base.multimap import Multimap
from ..errors import CurateError
from ..records import CANDIDATE_STATUSES, CANDIDATES, Candidate, Example
from .readers import RawRow, Row, Source, Unreadable

_MISFITS = 100  # so many rows without the columns and none with them: it has other ones
_TURNS = ("messages", "conversations")
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant",
          "system": "system"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The input's column names; None where the usual one is looked for."""

    instruction: str | None = None
    input: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record whose instruction repeats that of an earlier one, which was kept."""

    id: str
    duplicate_of: str
    similarity: float


@dataclass(slots=True)
class Intake:
    """What became of the input's rows: `rows` = `records` + `duplicates` + `rejected`.

    `near_duplicates` are records that were left out afterwards.
    """

    rows: int = 0
    records: int = 0
    duplicates: int = 0
    surrogates: int = 0
    rejected: list[Unreadable] = field(default_factory=list)
    num_rejected: int = 0
    near_duplicates: list[LeftOut] = field(default_factory=list)

    def reject(self, place: str, reason: str) -> None:
        """Count a row that is not used; the first thousand are kept with place and reason."""
        self.num_rejected += 1
        if len(self.rejected) < 1000:
            self.rejected.append(Unreadable(place, reason))

    def counts(self) -> dict[str, int]:
        """The counts as the manifest has them; all up to `rejected` add up to `rows`."""
        left_out = len(self.near_duplicates)
        return {
            "rows": self.rows,
            "records": self.records - left_out,
            "duplicates": self.duplicates,
            **({"near_duplicates": left_out} if left_out else {}),
            "rejected": self.num_rejected,
            "surrogates_replaced": self.surrogates,
        }


class _Unusable(Exception):
    """Why a row is not used."""


class _NoColumns(_Unusable):
    """A row without the texts' columns: all the data set, or this row alone."""


def examples(
    source: Source,
    columns: Columns,
    intake: Intake,
    *,
    strict: bool = False,
    limit: int | None = None,
) -> Iterator[Example]:
    """The source's records, each once; unusable rows are counted in `intake`, or fatal if strict.

    Raises CurateError when the columns are not found, when no row is usable, and when one id comes
    with two contents.
    """
    seen = Multimap()
    extract, misfit = None, None
    for row in source.rows():
        if limit is not None and intake.records >= limit:
            return
        intake.rows += 1
        try:
            row = _readable_row(row)
            extract = extract or _layout(source, row.values, columns)
            example = _clean(extract(row.values), row.values, intake)
        except _Unusable as error:
            misfit = misfit or (error if isinstance(error, _NoColumns) else None)
            if misfit is not None and extract is None and intake.rows >= _MISFITS:
                raise CurateError(str(misfit)) from None
            _reject(intake, row.place, str(error), strict)
            continue
        if _is_new(example.id, _digest(example), seen, row.place):
            intake.records += 1
            yield example
        else:
            intake.duplicates += 1
    if extract is None and misfit is not None:
        raise CurateError(str(misfit))
    require_records(source, intake)


def _readable_row(row: RawRow) -> Row:
    if isinstance(row, Unreadable):
        raise _Unusable(row.reason)
    return row


def _reject(intake: Intake, place: str, reason: str, strict: bool) -> None:
    if strict:
        raise CurateError(f"{place}: {reason} (--strict)")
    intake.reject(place, reason)


def require_records(source: Source, intake: Intake) -> None:
    """CurateError where no row was usable."""
    if intake.records:
        return
    if not intake.rows:
        raise CurateError(f"{source.name} is empty: it has no rows")
    first = intake.rejected[0]
    raise CurateError(
        f"none of the {intake.rows} rows of {source.name} is usable; "
        f"the first, {first.place}: {first.reason}"
    )


# --- columns -------------------------------------------------------------------------------------

Extract = Callable[[Mapping[str, Any]], dict[str, Any]]


def _layout(source: Source, row: Mapping[str, Any], columns: Columns) -> Extract:
    """How this data set names its texts, told from the first row that has them."""
    named = {
        "instruction": columns.instruction or "instruction",
        "input": columns.input or "input",
        "output": columns.output or "output",
    }
    if named["instruction"] in row and named["output"] in row:
        if columns.input and columns.input not in row:
            raise _NoColumns(_no_columns(source, row, [columns.input]))
        return lambda values: _from_columns(values, named)
    turns = next((name for name in _TURNS if name in row), None)
    if turns and not (columns.instruction or columns.output):
        return lambda values: _from_turns(values, turns)
    missing = [named[key] for key in ("instruction", "output") if named[key] not in row]
    raise _NoColumns(_no_columns(source, row, missing))


def _no_columns(source: Source, row: Mapping[str, Any], missing: list[str]) -> str:
    return (
        f"{source.name} has no column {' nor '.join(repr(m) for m in missing)}; its columns are "
        f"{', '.join(map(str, row)) or 'none'}. Name them with --instruction-column, "
        "--input-column and --output-column"
    )


def _from_columns(values: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    texts = {
        "instruction": _text(values, named["instruction"]),
        "input": _text(values, named["input"]) if values.get(named["input"]) is not None else "",
        "output": _text(values, named["output"]),
    }
    if system := _system_turn(values):
        texts["system"] = system
    used = {*named.values(), "id"}
    return {**texts, "extra": {k: v for k, v in values.items() if k not in used}}


def _system_turn(values: Mapping[str, Any]) -> str | None:
    """The system turn of `messages` beside the columns, as a selected set has it."""
    turns = values.get("messages")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("role") == "system":
            return turn.get("content") if isinstance(turn.get("content"), str) else None
    return None


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if value is None:
        raise _Unusable(f"no {name!r}")
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise _Unusable(f"{name!r} is not text but {type(value).__name__}")


def _from_turns(values: Mapping[str, Any], column: str) -> dict[str, Any]:
    turns = values.get(column)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise _Unusable(f"{column!r} is not a list of turns")
    said = [(_role(turn), turn.get("content", turn.get("value"))) for turn in turns]
    if not all(isinstance(text, str) for _, text in said):
        raise _Unusable(f"a turn of {column!r} has no text")
    roles = [role for role, _ in said]
    if roles.count("user") > 1:
        raise _Unusable(f"{roles.count('user')} user turns; only one is supported")
    if [role for role in roles if role != "system"] != ["user", "assistant"] or (
        "system" in roles and (roles.count("system") > 1 or roles[0] != "system")
    ):
        raise _Unusable(f"turns are {', '.join(roles) or 'none'}; wanted user, assistant")
    texts = dict(said)
    return {
        "instruction": texts["user"],
        "input": "",
        "output": texts["assistant"],
        "system": texts.get("system") or None,
        "extra": {k: v for k, v in values.items() if k not in (column, "id")},
    }


def _role(turn: Mapping[str, Any]) -> str:
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role not in _ROLES:
        raise _Unusable(f"unknown role {role!r}")
    return _ROLES[role]


# --- contents ------------------------------------------------------------------------------------


def _clean(texts: dict[str, Any], values: Mapping[str, Any], intake: Intake) -> Example:
    """An example with whole characters only: a lone surrogate becomes U+FFFD, and is counted."""
    replaced: dict[str, Any] = {k: _whole(v) if isinstance(v, str) else v for k, v in texts.items()}
    replaced["extra"] = whole_values(texts["extra"])
    intake.surrogates += sum(replaced[k] != texts[k] for k in texts)
    given = values.get("id")
    id = content_id(replaced) if given is None or given == "" else _whole(str(given))
    return Example(id=id, **replaced)


def _whole(text: str) -> str:
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        # A surrogate pair that was escaped in two halves is one character after all.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with whole characters only, in texts within them too."""
    text = _json(values)
    whole = _whole(text)
    return values if whole == text else json.loads(whole)


def content_id(texts: Mapping[str, Any]) -> str:
    """The first 24 hex digits of the SHA-256 of a record's texts.

    >>> content_id({"instruction": "Add", "input": "", "output": "3"})
    '4187e16a4c4c19a3f43ea3f1'
    """
    parts = [texts["instruction"], texts.get("input") or "", texts["output"]]
    if texts.get("system"):
        parts.append(texts["system"])
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:24]


def _digest(example: Example) -> int:
    texts = {k: getattr(example, k) for k in ("instruction", "input", "output", "system")}
    return int(content_id(texts)[:15], 16)


def _is_new(id: str, digest: int, seen: Multimap, place: str) -> bool:
    # 63 bits of each id and 60 of its texts, whatever their length.
    key = int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest()) >> 1
    known = seen.get(key)
    if not known:
        seen.add(key, digest)
        return True
    if known[0] != digest:
        raise CurateError(f"{place}: the id {id!r} stands for two different contents")
    return False


def extra_json(example: Example) -> str | None:
    """The further columns as a JSON object; what JSON cannot say becomes text."""
    return _json(example.extra) if example.extra else None


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, default=str, ensure_ascii=False)


# --- candidates ----------------------------------------------------------------------------------


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
    with (
        tempfile.TemporaryDirectory(prefix="curate-") as folder,
        closing(sqlite3.connect(Path(folder) / "candidates.sqlite")) as database,
    ):
        database.execute("create table c (id text, kind int, row text, primary key (id, kind))")
        database.execute("create table ids (id text primary key, place integer)")
        for row in source.rows():
            intake.rows += 1
            try:
                _store(database, _candidate(_readable_row(row), intake), row.place, intake)
            except _Unusable as error:
                _reject(intake, row.place, str(error), strict)
        require_records(source, intake)
        yield from _grouped(database)


def _store(database: sqlite3.Connection, candidate: Candidate, place: str, intake: Intake) -> None:
    row = json.dumps([getattr(candidate, name) for name in Candidate.__slots__])
    kind = CANDIDATES.index(candidate.candidate)
    known = database.execute(
        "select row from c where id = ? and kind = ?", (candidate.id, kind)
    ).fetchone()
    if known is None:
        database.execute("insert into c values (?, ?, ?)", (candidate.id, kind, row))
        database.execute("insert or ignore into ids values (?, ?)", (candidate.id, intake.rows))
        intake.records += 1
    elif known[0] == row:
        intake.duplicates += 1
    else:
        raise CurateError(
            f"{place}: the candidate {candidate.candidate!r} of {candidate.id!r} comes with two "
            "different contents"
        )


def _grouped(database: sqlite3.Connection) -> Iterator[list[Candidate]]:
    group: list[Candidate] = []
    ordered = "select row from c join ids using (id) order by ids.place, c.kind"
    for (row,) in database.execute(ordered):
        candidate = Candidate(**dict(zip(Candidate.__slots__, json.loads(row), strict=True)))
        if group and group[0].id != candidate.id:
            yield group
            group = []
        group.append(candidate)
    if group:
        yield group


def _candidate(row: Row, intake: Intake) -> Candidate:
    values = {k: v for k, v in row.values.items() if v is not None}
    id, kind = values.get("id"), values.get("candidate")
    if id is None or id == "":
        raise _Unusable("a candidate without an id")
    if kind not in CANDIDATES:
        raise _Unusable(f"unknown candidate {kind!r}; known are {', '.join(CANDIDATES)}")
    status = values.get("status", "ok")
    if status not in CANDIDATE_STATUSES:
        raise _Unusable(f"unknown status {status!r}")
    known = {
        name: _whole(_text(values, name)) if name in values else None
        for name in ("reason", "teacher", "reply_key", "system")
    }
    known["system"] = known["system"] or _system_turn(values)
    candidate = Candidate(
        id=_whole(str(id)),
        candidate=kind,
        status=status,
        extra=_carried(row.values) if kind == "original" else None,
        **known,
    )
    return replace(candidate, **_pair_texts(values, intake)) if candidate.valid else candidate


def _carried(values: Mapping[str, Any]) -> str | None:
    """The further columns as a JSON object; a run's own shards hold them as one in `extra`."""
    further = {k: v for k, v in values.items() if k not in Candidate.__slots__}
    given = values.get("extra")
    try:
        held = json.loads(given) if isinstance(given, str) else None
    except ValueError:
        held = None
    if isinstance(held, dict):
        further = {**held, **further}
    elif given is not None:
        further["extra"] = given
    return _whole(_json(further)) if further else None


def _pair_texts(values: Mapping[str, Any], intake: Intake) -> dict[str, Any]:
    texts = {
        "instruction": _text(values, "instruction"),
        "input": _text(values, "input") if "input" in values else "",
        "output": _text(values, "output"),
    }
    whole = {name: _whole(text) for name, text in texts.items()}
    intake.surrogates += sum(whole[name] != texts[name] for name in texts)
    return whole
