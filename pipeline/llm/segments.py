"""A journal's files: lines with a check each, written at once and brought to the disk in groups."""

import json
import os
import re
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from threading import Condition, Thread
from typing import Any, BinaryIO

from ..base.files import sync
from ..errors import CurateError

SYNC_REPLIES = 64
SYNC_SECONDS = 1.0

_NAME = re.compile(r"[^.].*\.jsonl")
_START = b'{"key":"'
_TAIL = re.compile(rb',"check":"([0-9a-f]{8})"\}\n?\Z')
_TAIL_BYTES = len(b',"check":"01234567"}\n')
_SURROGATES = re.compile("[\ud800-\udfff]")


class SegmentWriter:
    """One segment being written, and the thread that brings it to the disk in groups.

    `write` returns after one `os.write` of a whole line, so what it wrote survives kill -9. The
    thread calls fsync once 64 lines wait for it or one second after the first of them.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self.path = folder / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._end = 0
        self._unsynced = 0
        self._closing = False
        self._error: OSError | None = None
        self._changed = Condition()
        with suppress(OSError):  # so that its name survives a power cut, where that can be
            sync(folder)
        self._thread = Thread(target=self._sync_groups, name="journal-fsync", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> int:
        """Append the line; its offset. Raises the OSError of an earlier fsync too."""
        if self._error is not None:
            raise self._error
        written = os.write(self._fd, line)
        while written < len(line):  # a signal, or a disk just full: then this raises ENOSPC
            written += os.write(self._fd, line[written:])
        offset, self._end = self._end, self._end + len(line)
        with self._changed:
            self._unsynced += 1
            if self._unsynced in (1, SYNC_REPLIES):
                self._changed.notify()
        return offset

    def sync(self) -> None:
        """Bring all that was written to the disk, here."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Let the thread end, with a last fsync, and close the file."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        os.close(self._fd)
        if self._error is not None:
            raise self._error

    def _sync_groups(self) -> None:
        while self._wait_for_group():
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._error = error
                return

    def _wait_for_group(self) -> bool:
        """Until there is something to sync (True), or the end with nothing left (False)."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsynced or self._closing)
            self._changed.wait_for(
                lambda: self._unsynced >= SYNC_REPLIES or self._closing, SYNC_SECONDS
            )
            waiting, self._unsynced = self._unsynced, 0
            return waiting > 0


def segments_of(folder: Path) -> list[Path]:
    """The segments of a folder that may not exist yet."""
    with readable(folder):
        if not folder.exists():
            return []
        names = sorted(os.listdir(folder))
    return [folder / name for name in names if _NAME.fullmatch(name)]


def encode_line(entry: dict[str, Any]) -> bytes:
    """An entry as a line with its check."""
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    body = _SURROGATES.sub("\ufffd", text)[:-1].encode()
    return body + b',"check":"%08x"}\n' % zlib.crc32(body)


def intact(line: bytes) -> bool:
    """Whether a line is as it was written."""
    tail = _TAIL.search(line, max(0, len(line) - _TAIL_BYTES))
    return tail is not None and int(tail[1], 16) == zlib.crc32(memoryview(line)[: tail.start()])


def lines_of(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(offset, line); two lines that lost the newline between them come as two."""
    offset = 0
    for line in file:
        if intact(line):
            yield offset, line
        elif line.strip():
            yield from _pieces(offset, line)
        offset += len(line)


def line_at(file: BinaryIO, offset: int) -> bytes:
    """The one line that starts there."""
    file.seek(offset)
    return next(_pieces(0, file.readline()), (0, b""))[1]


def _pieces(offset: int, line: bytes) -> Iterator[tuple[int, bytes]]:
    # Inside a JSON string the quotes would be escaped: these bytes only ever start an entry.
    starts = [match.start() for match in re.finditer(re.escape(_START), line)]
    bounds = sorted({0, *starts, len(line)})
    for start, end in pairwise(bounds):
        yield offset + start, line[start:end]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of what in the journal cannot be read why, in one sentence."""
    try:
        yield
    except OSError as error:
        raise CurateError(f"cannot read the journal {path}: {reason_of(error)}") from error


def reason_of(error: OSError) -> str:
    """The system's word for it."""
    return (error.strerror or str(error)).lower()
