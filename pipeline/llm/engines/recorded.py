"""The recorded teacher: raw replies read from a JSONL file instead of asked of a model."""

import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ...base.multimap import Multimap
from ...errors import CurateError, TeacherFailure
from ...records import REFLECTIONS
from ..journal import clean
from ..protocol import Reply, Request, Teacher

_UNREADABLE = (OSError, EOFError, zlib.error)  # the last two: a damaged .gz


class _Recorded(NamedTuple):
    id: str
    candidate: str
    text: str
    finish_reason: str | None


class RecordedTeacher:
    """Replies by (id, candidate); of several for one slot the last line wins.

    Only the lines' offsets are kept in memory. Raises CurateError for a file that cannot be read
    or a malformed line.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "recorded",
        revision: str | None = None,
        kinds: Sequence[str] = REFLECTIONS,
    ) -> None:
        """`kinds` are the candidates that a line may name."""
        self._path = Path(path)
        self._kinds = tuple(kinds)
        self._name = name
        self._revision = revision
        try:
            self._file = _seekable(self._path)
        except _UNREADABLE as error:
            raise self._unreadable(error) from error
        try:
            self._offsets = Multimap()
            for slot, offset in self._indexed():
                self._offsets.add(slot, offset)
        except (OSError, CurateError) as error:
            self._file.close()
            raise error if isinstance(error, CurateError) else self._unreadable(error) from error

    @property
    def name(self) -> str:
        """The name given, "recorded" by default."""
        return self._name

    @property
    def revision(self) -> str | None:
        """The revision given, if any."""
        return self._revision

    async def ask(self, request: Request) -> Reply:
        """The recorded reply; TeacherFailure where there is none."""
        line = self._line(request.id, request.candidate)
        if not line:
            raise TeacherFailure("no recorded reply")
        recorded = self._parsed(line, 0)
        return Reply(
            text=recorded.text,
            finish_reason=recorded.finish_reason,
            max_tokens=request.max_tokens,
            prompt_tokens=0,  # paid for elsewhere
            completion_tokens=0,
        )

    async def close(self) -> None:
        """Close the file."""
        self._file.close()

    def slot(self, id_: str, candidate: str) -> tuple[str, ...]:
        """What a journaled reply is known by: its place and itself, so that files may differ."""
        mark = blake2b(self._line(id_, candidate), digest_size=8).hexdigest()
        return id_, candidate, mark

    def _line(self, id_: str, candidate: str) -> bytes:
        """The reply's line; nothing where there is none."""
        offsets = self._offsets.get(_slot(id_, candidate))
        if not offsets:
            return b""
        self._file.seek(offsets[-1])
        return self._file.readline()

    def _indexed(self) -> Iterator[tuple[int, int]]:
        offset = 0
        for number, line in enumerate(self._file, start=1):
            if line.strip():
                recorded = self._parsed(line, number)
                yield _slot(recorded.id, recorded.candidate), offset
            offset += len(line)

    def _parsed(self, line: bytes, number: int) -> _Recorded:
        try:
            return _record(json.loads(line.decode("utf-8-sig")), self._kinds)
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            raise CurateError(f"{self._path}, line {number}: {_problem(error)}") from error

    def _unreadable(self, error: Exception) -> CurateError:
        why = getattr(error, "strerror", None) or str(error)
        return CurateError(f"cannot read the replies {self._path}: {why.lower()}")


def slot_of(teacher: Teacher, id_: str, candidate: str) -> tuple[str, ...] | None:
    """The slot of a request's key; None where the messages determine the reply."""
    return teacher.slot(id_, candidate) if isinstance(teacher, RecordedTeacher) else None


def _seekable(path: Path) -> BinaryIO:
    """The file opened; a .gz unpacked to an unnamed temporary file first, to be seekable."""
    if path.suffix != ".gz":
        return path.open("rb")
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (kept open for as long as the teacher lives)
    try:
        with gzip.open(path, "rb") as packed:
            shutil.copyfileobj(packed, unpacked)
    except _UNREADABLE:
        unpacked.close()
        raise
    unpacked.seek(0)
    return cast(BinaryIO, unpacked)


def _slot(id_: str, candidate: str) -> int:
    """A flat 60-bit name for (id, candidate); a million slots collide once in a million files."""
    digest = blake2b(f"{candidate}\0{id_}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 4


def _record(row: object, kinds: tuple[str, ...]) -> _Recorded:
    """The checked row; ValueError says what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    missing = [name for name in ("id", "candidate", "reply") if row.get(name) is None]
    if missing:
        raise ValueError(f"no {missing[0]!r}")
    if row["candidate"] not in kinds:
        raise ValueError(f"candidate is {row['candidate']!r}, not one of {', '.join(kinds)}")
    if not isinstance(row["reply"], str):
        raise ValueError("'reply' is not a text")
    finish = row.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise ValueError("'finish_reason' is not a text")
    return _Recorded(str(row["id"]), row["candidate"], clean(row["reply"]), finish)


def _problem(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at column {error.colno})"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
