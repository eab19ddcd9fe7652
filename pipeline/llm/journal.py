"""The journal: every raw reply on disk under the key of its request, so that none is paid twice.

Each writing process appends to a segment of its own; all segments of the folder are read. What
`append` acknowledged survives kill -9, and a power cut but for the last second. A torn or rotten
line is skipped and counted, and hides no other line.
"""

import json
import re
import time
from contextlib import suppress
from errno import ENOENT
from pathlib import Path
from typing import Any, BinaryIO

from ..base.multimap import Multimap
from ..errors import CurateError
from .budget import Reservation, charge, prompt_ceiling
from .protocol import Reply, Request, with_reasoning_apart
from .segments import (
    SegmentWriter,
    encode_line,
    intact,
    line_at,
    lines_of,
    readable,
    reason_of,
    segments_of,
)

_HEAD = re.compile(
    rb'\{"key":"([0-9a-f]{32})","run":("(?:[^"\\]|\\.)*"),"spent":\[(\d+),(\d+)\],("half":true,)?'
)
_OFFSET_BITS = 44  # a location is segment << 44 | offset: 16 TiB a segment, one small int


class Journal:
    """The replies of a folder of segments; appends go to a new segment, made at the first one."""

    def __init__(self, folder: Path, *, run: str, model: str | None = None) -> None:
        """Index what is there; `run` and `model` go with each entry appended."""
        self._folder = Path(folder)
        self._run = run
        self._model = model
        self._segments: list[Path] = []
        self._index = Multimap()
        self._totals: dict[str, list[int]] = {}  # by run: all tokens, then those at half price
        self._count = 0
        self.damaged = 0  # torn or corrupt lines that were skipped
        self._writer: SegmentWriter | None = None
        self._reader: tuple[int, BinaryIO] | None = None
        self._last_time = 0.0
        self._has_parent = self._folder.parent.exists()  # a run that is moved is not made anew
        for path in segments_of(self._folder):
            self._scan(path)

    def __len__(self) -> int:
        return self._count

    def attempts(self, key: str) -> list[Reply]:
        """Every reply to this request, oldest first."""
        found = self._index.get(_short(key))
        entries = [entry for location in found if (entry := self._read(location))]
        mine = [entry for entry in entries if entry["key"] == key]
        return [_reply(entry) for entry in sorted(mine, key=lambda entry: entry["time"])]

    def append(self, request: Request, reply: Reply) -> Reply:
        """Store a reply; as it will be found. Once this returns it survives kill -9.

        Raises CurateError on a full disk.
        """
        reply = with_reasoning_apart(reply)
        worst = Reservation(prompt_ceiling(request.messages), request.max_tokens)
        spent = charge(reply, worst)
        entry = self._entry(request, reply, spent)
        try:
            offset = self._opened_writer().write(encode_line(entry))
        except OSError as error:
            self._drop_writer()
            raise self._unwritable(error) from error
        half = reply.batch is not None
        self._note(len(self._segments) - 1, offset, request.key, self._run, spent, half=half)
        return reply

    def spent(self, run: str) -> tuple[int, int]:
        """(prompt, completion) tokens over that run's entries; the worst case where not counted."""
        prompt, completion, *_ = self._totals.get(run, (0, 0, 0, 0))
        return prompt, completion

    def spent_at_half(self, run: str) -> tuple[int, int]:
        """Those of them that batch jobs used, at half price."""
        *_, prompt, completion = self._totals.get(run, (0, 0, 0, 0))
        return prompt, completion

    def sync(self) -> None:
        """Bring all that was appended to the disk now."""
        if self._writer is not None:
            try:
                self._writer.sync()
            except OSError as error:
                raise self._unwritable(error) from error

    def close(self) -> None:
        """Flush to the disk and close the files; the journal may still be read afterwards."""
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except OSError as error:
                raise self._unwritable(error) from error

    def _entry(self, request: Request, reply: Reply, spent: tuple[int, int]) -> dict[str, Any]:
        self._last_time = max(self._last_time, time.time())  # the clock may be set back
        # What is read when a journal is opened comes first, in this order (_HEAD).
        entry: dict[str, Any] = {"key": request.key, "run": self._run, "spent": spent}
        entry |= {} if reply.batch is None else {"half": True}
        entry |= {"id": request.id, "candidate": request.slot, "model": self._model}
        fields = {name: getattr(reply, name) for name in Reply.__slots__}
        return entry | {"time": self._last_time} | fields

    def _opened_writer(self) -> SegmentWriter:
        if self._writer is None:
            if self._has_parent and not self._folder.parent.exists():
                raise FileNotFoundError(ENOENT, "its folder is not there any more")
            self._writer = SegmentWriter(self._folder)
            self._segments.append(self._writer.path)
        return self._writer

    def _scan(self, path: Path) -> None:
        segment = len(self._segments)
        self._segments.append(path)
        with readable(path), path.open("rb") as file:
            for offset, line in lines_of(file):
                self._index_line(segment, offset, line)

    def _index_line(self, segment: int, offset: int, line: bytes) -> None:
        head = _HEAD.match(line) if intact(line) else None
        if head is None:
            self.damaged += 1
            return
        spent = int(head[3]), int(head[4])
        half = head[5] is not None
        self._note(segment, offset, head[1].decode(), json.loads(head[2]), spent, half=half)

    def _note(
        self, segment: int, offset: int, key: str, run: str, spent: tuple[int, int], *, half: bool
    ) -> None:
        self._index.add(_short(key), segment << _OFFSET_BITS | offset)
        total = self._totals.setdefault(run, [0, 0, 0, 0])
        for place, tokens in enumerate((*spent, *spent) if half else spent):
            total[place] += tokens
        self._count += 1

    def _read(self, location: int) -> dict[str, Any] | None:
        segment, offset = location >> _OFFSET_BITS, location & ((1 << _OFFSET_BITS) - 1)
        with readable(self._segments[segment]):
            line = line_at(self._opened_segment(segment), offset)
        if intact(line):
            entry: dict[str, Any] = json.loads(line)
            return entry
        self.damaged += 1
        return None

    def _opened_segment(self, segment: int) -> BinaryIO:
        if self._reader is None or self._reader[0] != segment:
            if self._reader is not None:
                self._reader[1].close()
            self._reader = None
            self._reader = (segment, self._segments[segment].open("rb"))
        return self._reader[1]

    def _drop_writer(self) -> None:
        """After a failed write, which may have left a torn line: the next one starts afresh."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.close()

    def _unwritable(self, error: OSError) -> CurateError:
        return CurateError(
            f"cannot write the journal in {self._folder}: {reason_of(error)}; "
            "nothing that was stored is lost: make room there and run the same command again"
        )


def _short(key: str) -> int:
    """60 bits of the key: half the memory of all; the entry itself settles a collision."""
    return int(key[:15], 16)


def _reply(entry: dict[str, Any]) -> Reply:
    fields = {name: entry[name] for name in Reply.__slots__ if name in entry}
    return with_reasoning_apart(Reply(**fields))  # entries of older versions have it in the text
