"""Recorded replies: read from a JSONL file instead of asked of a model."""

import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ...base.foreign_json import parse_json
from ...base.foreign_text import regular
from ...base.multimap import Multimap
from ...errors import CurateError, RequestFailed
from ...records import REFLECTIONS
from ..protocol import Engine, Reply, Request, storable

_UNREADABLE = (OSError, EOFError, zlib.error)  # the last two: a damaged .gz


class _Recorded(NamedTuple):
    id: str
    slot: str
    text: str
    finish_reason: str | None
    reasoning: str | None


class RecordedEngine(Engine):
    """Replies by (id, slot); of several for one slot the last line wins.

    Only the lines' offsets are kept in memory. Raises CurateError for a file that cannot be read
    or a malformed line.
    """

    def __init__(
        self, path: Path, *, name: str = "recorded", slots: Sequence[str] = REFLECTIONS
    ) -> None:
        """`slots` are what a line's `candidate` may name."""
        self.name, self.revision = name, None
        self._path = Path(path)
        self._slots = tuple(slots)
        try:
            self._file = _seekable(regular(self._path))
        except _UNREADABLE as error:
            raise self._unreadable(error) from error
        try:
            self._offsets = Multimap()
            for slot, offset in self._indexed():
                self._offsets.add(slot, offset)
        except (OSError, CurateError) as error:
            self._file.close()
            raise error if isinstance(error, CurateError) else self._unreadable(error) from error

    async def ask(self, request: Request) -> Reply:
        """The recorded reply; RequestFailed where there is none."""
        line = self._line(request.id, request.slot)
        if not line:
            raise RequestFailed("no recorded reply")
        recorded = self._parsed(line, 0)
        return Reply(
            text=recorded.text,
            finish_reason=recorded.finish_reason,
            max_tokens=request.max_tokens,
            prompt_tokens=0,  # paid for elsewhere
            completion_tokens=0,
            reasoning=recorded.reasoning,
        )

    async def close(self) -> None:
        """Close the file."""
        self._file.close()

    def recorded_as(self, id: str, slot: str) -> tuple[str, ...]:
        """Its slot and the hash of its line, so that files may differ."""
        return id, slot, blake2b(self._line(id, slot), digest_size=8).hexdigest()

    def _line(self, id: str, slot: str) -> bytes:
        """The reply's line; nothing where there is none."""
        offsets = self._offsets.get(_short_name(id, slot))
        if not offsets:
            return b""
        self._file.seek(offsets[-1])
        return self._file.readline()

    def _indexed(self) -> Iterator[tuple[int, int]]:
        offset = 0
        for number, line in enumerate(self._file, start=1):
            if line.strip():
                recorded = self._parsed(line, number)
                yield _short_name(recorded.id, recorded.slot), offset
            offset += len(line)

    def _parsed(self, line: bytes, number: int) -> _Recorded:
        try:
            return _record(parse_json(line.decode("utf-8-sig")), self._slots)
        except ValueError as error:
            raise CurateError(f"{self._path}, line {number}: {_problem(error)}") from error

    def _unreadable(self, error: Exception) -> CurateError:
        why = getattr(error, "strerror", None) or str(error)
        return CurateError(f"cannot read the replies {self._path}: {why.lower()}")


def _seekable(path: Path) -> BinaryIO:
    """The file opened; a .gz unpacked to an unnamed temporary file first, to be seekable."""
    if path.suffix != ".gz":
        return path.open("rb")
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (kept open for as long as the engine is)
    try:
        with gzip.open(path, "rb") as packed:
            shutil.copyfileobj(packed, unpacked)
    except _UNREADABLE:
        unpacked.close()
        raise
    unpacked.seek(0)
    return cast(BinaryIO, unpacked)


def _short_name(id: str, slot: str) -> int:
    """A flat 60-bit name for (id, slot); a million slots collide once in a million files."""
    digest = blake2b(f"{slot}\0{id}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 4


def _record(row: object, slots: tuple[str, ...]) -> _Recorded:
    """The checked row; ValueError says what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    missing = [name for name in ("id", "candidate", "reply") if row.get(name) is None]
    if missing:
        raise ValueError(f"no {missing[0]!r}")
    if row["candidate"] not in slots:
        raise ValueError(f"candidate is {row['candidate']!r}, not one of {', '.join(slots)}")
    texts = [row.get(name) for name in ("reply", "finish_reason", "reasoning")]
    for name, text in zip(("reply", "finish_reason", "reasoning"), texts, strict=True):
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{name!r} is not a text")
    return _Recorded(str(row["id"]), row["candidate"], storable(row["reply"]), *texts[1:])


def _problem(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at column {error.colno})"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
