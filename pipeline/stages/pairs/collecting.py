"""Pairs and reasons as they come: the rows on disk, and of each pair the few numbers to keep."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...method.preferences.lengths import Floats, Integers, Mask
from ...pair_records import PAIR_SCHEMA, UNPAIRED_SCHEMA, NoPair, Origin, PreferencePair, Unpaired
from ...runs.published.arrow_set import write_tables
from ...runs.published.pair_set import LEFT_OUT

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class PairNumbers:
    """Of each pair: its margin (NaN without scores), the answers' lengths in characters, a key.

    The key orders pairs of equal margins, whatever the order in which they came.
    """

    margins: Floats
    chosen: Integers
    rejected: Integers
    keys: npt.NDArray[np.uint64]
    near_ties: Mask

    def of(self, mask: Mask) -> "PairNumbers":
        """The numbers of some pairs."""
        return PairNumbers(*(getattr(self, name)[mask] for name in self.__slots__))


class Collector:
    """Takes outcomes and writes both data sets: 33 bytes of memory a pair."""

    def __init__(self, folder: Path) -> None:
        self._pairs = _Spool(folder / ".pairs.spool", PAIR_SCHEMA)
        self._left_out = _Spool(folder / ".left_out.spool", UNPAIRED_SCHEMA)
        self._margins, self._near_ties = array("d"), array("b")
        self._chosen, self._rejected, self._keys = array("q"), array("q"), array("Q")
        self.reasons: Counter[NoPair] = Counter()

    def add(self, outcome: PreferencePair | Unpaired) -> None:
        """Take one more pair or reason."""
        if isinstance(outcome, Unpaired):
            self.reasons[outcome.reason] += 1
            self._left_out.add(outcome.values())
            return
        self._pairs.add(outcome.values())
        self._margins.append(float("nan") if outcome.margin is None else outcome.margin)
        self._near_ties.append(outcome.near_tie)
        self._chosen.append(len(outcome.chosen))
        self._rejected.append(len(outcome.rejected))
        self._keys.append(_key(outcome))

    def numbers(self) -> PairNumbers:
        """What is kept of the pairs so far."""
        return PairNumbers(
            margins=np.array(self._margins, np.float64),
            chosen=np.array(self._chosen, np.int64),
            rejected=np.array(self._rejected, np.int64),
            keys=np.array(self._keys, np.uint64),
            near_ties=np.array(self._near_ties, np.bool_),
        )

    def write(self, folder: Path, stay: Mask, why: str) -> None:
        """Write the pairs that stay and what is left out, the others for their `length`."""
        write_tables(folder, self._staying(stay, why), PAIR_SCHEMA)
        write_tables(folder / LEFT_OUT, self._left_out.tables(), UNPAIRED_SCHEMA)

    def _staying(self, stay: Mask, why: str) -> Iterator[pa.Table]:
        done = 0
        for table in self._pairs.tables():
            mask = stay[done : done + len(table)]
            done += len(table)
            for row in table.filter(~mask).to_pylist():
                self.reasons["length"] += 1
                self._left_out.add(_dropped(row, why))
            yield table.filter(mask)


def _dropped(row: Mapping[str, Any], why: str) -> dict[str, Any]:
    answers = [Origin(**row[name]).name for name in ("chosen_from", "rejected_from")]
    about = {name: row[name] for name in ("id", "source", "margin")}
    return {**about, "reason": "length", "detail": why, "answers": answers}


def _key(pair: PreferencePair) -> int:
    named = repr((pair.id, pair.prompt, pair.chosen, pair.rejected))
    return int.from_bytes(blake2b(named.encode(), digest_size=8).digest())


class _Spool:
    """Rows in an Arrow stream on disk, a batch of them in memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._rows: list[dict[str, Any]] = []
        self._file = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._file, schema)

    def add(self, row: dict[str, Any]) -> None:
        """Take one more row."""
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._write()

    def tables(self) -> Iterator[pa.Table]:
        """All rows, once: nothing can be added any more, and the file goes."""
        self._write()
        self._stream.close()
        self._file.close()
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])
        self._path.unlink()

    def _write(self) -> None:
        if self._rows:
            self._stream.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows.clear()
