"""New instructions of a run: `rounds/`, what each round made, and the two data sets made of it.

Round 0 holds the seeds. Each round is one shard, with what it kept and what it left out, in the
order of its requests.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from ..base.files import write_parquet
from ..inputs.examples import chunks
from ..records import to_table
from .directory import RunDir
from .published.selected import write_set

ROUNDS, INSTRUCTIONS, LEFT_OUT = "rounds", "instructions", "left_out"
ABOVE_NUMBER = "above_number"
_ROWS = 1000
_INSTANCE = re.compile(r"#\d+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A seed, or what was made of some, its parents; `reason` says why it is left out.

    An instruction with several instances is as many rows, whose ids are its own with `#1`, `#2` …
    behind it.
    """

    id: str
    instruction: str
    input: str = ""
    output: str | None = None
    method: str
    operation: str | None = None
    round: int
    parents: tuple[str, ...] = ()
    reply_key: str | None = None
    """Of the reply that holds the instruction; `answer_key` of that with input and output."""
    answer_key: str | None = None
    reason: str | None = None
    detail: str | None = None

    @property
    def own_id(self) -> str:
        """The instruction's id, without the number of an instance."""
        return _INSTANCE.sub("", self.id) if self.answer_key else self.id


def _schema(*names: str) -> pa.Schema:
    types = {"round": pa.int64(), "parents": pa.list_(pa.string())}
    return pa.schema([(name, types.get(name, pa.string())) for name in names])


_ABOUT = ("method", "operation", "round", "parents", "reply_key", "answer_key")
_ATTRIBUTES = {"text": "instruction"}
ROUND_SCHEMA = _schema(*Instruction.__slots__)
INSTRUCTION_SCHEMA = _schema("id", "instruction", "input", "output", *_ABOUT)
LEFT_OUT_SCHEMA = _schema("id", "text", "input", "output", "reason", "detail", *_ABOUT)


def rounds(run: RunDir) -> list[Path]:
    """The shards of the finished rounds, up to the first that is missing."""
    found: list[Path] = []
    while (path := round_path(run, len(found))).exists():
        found.append(path)
    return found


def round_path(run: RunDir, number: int) -> Path:
    """The place of a round's shard."""
    return run.path / ROUNDS / f"part-{number:05d}.parquet"


def write_round(run: RunDir, number: int, rows: Iterable[Instruction]) -> None:
    """Write what a round made."""
    _ = run.config  # in a run that was moved away it would stand alone
    write_parquet(round_path(run, number), _table(rows, ROUND_SCHEMA))


def read_round(run: RunDir, path: Path) -> list[Instruction]:
    """What a round made; CurateError where its shard is damaged."""
    rows = run.shard_table(path).to_pylist()
    return [Instruction(**{**row, "parents": tuple(row["parents"])}) for row in rows]


def all_rows(run: RunDir) -> Iterator[Instruction]:
    """What all rounds made, the seeds first; a round in memory at a time."""
    for path in rounds(run):
        yield from read_round(run, path)


def outcomes(run: RunDir, number: int) -> Iterator[Instruction]:
    """What became of all that was made: the first `number` instructions are kept, no more."""
    kept: set[str] = set()
    for row in all_rows(run):
        if row.round == 0:
            continue
        if row.reason is None and row.own_id not in kept:
            if len(kept) == number:
                row = replace(row, reason=ABOVE_NUMBER)
            else:
                kept.add(row.own_id)
        yield row


def counted(run: RunDir, number: int) -> tuple[list[str], Counter[str]]:
    """The instruction of each row that is kept, and how many are left out, by reason."""
    kept: list[str] = []
    left_out: Counter[str] = Counter()
    for row in outcomes(run, number):
        if row.reason is None:
            kept.append(row.own_id)
        else:
            left_out[row.reason] += 1
    return kept, left_out


def publish(run: RunDir, number: int, card: str) -> None:
    """Put `instructions/`, with its card, and `left_out/` in place of what was there."""
    kept = (row for row in outcomes(run, number) if row.reason is None)
    left_out = (row for row in outcomes(run, number) if row.reason is not None)
    for name, rows, schema, text in (
        (INSTRUCTIONS, kept, INSTRUCTION_SCHEMA, card),
        (LEFT_OUT, left_out, LEFT_OUT_SCHEMA, None),
    ):
        tables = (_table(chunk, schema) for chunk in chunks(rows, _ROWS))
        write_set(run.path / name, tables, schema, text)


def family(run: RunDir, id: str) -> list[Instruction]:
    """An instruction and its ancestors, each once, the nearest first."""
    by_id = {row.id: row for row in all_rows(run)}
    by_id |= {row.own_id: row for row in by_id.values() if row.reason is None}
    found, known = [by_id[id]], {id}
    for one in found:  # grows meanwhile
        new = [parent for parent in dict.fromkeys(one.parents) if parent not in known]
        known.update(new)
        found += map(by_id.__getitem__, new)
    return found


def _table(rows: Iterable[Instruction], schema: pa.Schema) -> pa.Table:
    own = pa.schema([field.with_name(_ATTRIBUTES.get(field.name, field.name)) for field in schema])
    return to_table(rows, own).rename_columns(schema.names)
