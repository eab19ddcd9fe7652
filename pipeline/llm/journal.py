"""The journal: every raw reply on disk under the key of its request, so that none is paid twice.

Each writing process appends to a segment of its own; all segments of the folder are read. `append`
returns after one `os.write` of a whole line, so what it acknowledged survives kill -9. A thread
calls fsync once 64 replies wait for it or one second after the first of them, and `close` does, so
a power cut loses at most the last second. A torn or rotten line is skipped and counted, and hides
no other line.
"""

import json
import os
import re
import secrets
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import ENOENT
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from threading import Condition, Thread
from typing import Any, BinaryIO

from ..base.multimap import Multimap
from ..errors import CurateError
from ..records import Message
from .budget import Reservation, charge, prompt_ceiling
from .protocol import Reply, Request

SYNC_REPLIES = 64
SYNC_SECONDS = 1.0

_SEGMENT = re.compile(r"[^.].*\.jsonl")
_START = b'{"key":"'
_HEAD = re.compile(
    rb'\{"key":"([0-9a-f]{32})","run":("(?:[^"\\]|\\.)*"),"spent":\[(\d+),(\d+)\],("half":true,)?'
)
_TAIL = re.compile(rb',"check":"([0-9a-f]{8})"\}\n?\Z')
_TAIL_BYTES = len(b',"check":"01234567"}\n')
_UNSAFE = re.compile("[\ud800-\udfff]")
_OFFSET_BITS = 44  # a location is segment << 44 | offset: 16 TiB a segment, one small int


def clean(text: str) -> str:
    r"""The text with what cannot be stored (lone surrogates, NUL) as U+FFFD.

    >>> clean("a\ud800\x00")
    'a\ufffd\ufffd'
    """
    return _UNSAFE.sub("\ufffd", text).replace("\0", "\ufffd")


def request_key(
    *,
    model: str,
    revision: str | None,
    messages: Sequence[Message],
    prompt_version: str,
    temperature: float,
    seed: int | None,
    slot: tuple[str, ...] | None = None,
) -> str:
    """128 bits (hex) of what determines a reply: neither the endpoint nor max_tokens.

    `slot` is what a recorded reply belongs to in place of the messages: `recorded.slot_of`.
    """
    identity = {
        "model": model,
        "revision": revision,
        "messages": [dict(message) for message in messages],
        "prompt_version": prompt_version,
        "temperature": float(temperature),
        "seed": seed,
        "slot": slot,
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=16).hexdigest()


def serves(reply: Reply, max_tokens: int) -> bool:
    """Whether a journaled reply answers the same request at this `max_tokens`.

    One that ended by itself does, at any limit that it would have fitted in. One that was cut does
    too, as a truncated attempt: only a retry asks again.
    """
    if reply.finish_reason == "length" or max_tokens >= reply.max_tokens:
        return True
    return reply.completion_tokens is not None and reply.completion_tokens <= max_tokens


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
        self._damaged = 0
        self._writer: _Writer | None = None
        self._open: tuple[int, BinaryIO] | None = None
        self._last_time = 0.0
        self._beside = self._folder.parent.exists()  # a run that is moved away is not made anew
        for path in self._listed():
            self._scan(path)

    @property
    def damaged(self) -> int:
        """How many torn or corrupt lines were skipped."""
        return self._damaged

    def __len__(self) -> int:
        return self._count

    def attempts(self, key: str) -> list[Reply]:
        """Every reply to this request, oldest first."""
        found = self._index.get(_short(key))
        entries = [entry for location in found if (entry := self._read(location))]
        mine = [entry for entry in entries if entry["key"] == key]
        return [_reply(entry) for entry in sorted(mine, key=lambda entry: entry["time"])]

    def append(self, request: Request, reply: Reply) -> None:
        """Store a reply: once this returns it survives kill -9. CurateError on a full disk."""
        worst = Reservation(prompt_ceiling(request.messages), request.max_tokens)
        spent = charge(reply, worst)
        entry = self._entry(request, reply, spent)
        try:
            if self._writer is None:
                if self._beside and not self._folder.parent.exists():
                    raise FileNotFoundError(ENOENT, "its folder is not there any more")
                self._writer = _Writer(self._folder)
                self._segments.append(self._writer.path)
            offset = self._writer.write(_line(entry))
        except OSError as error:
            self._drop_writer()
            raise self._unwritable(error) from error
        half = reply.batch is not None
        self._note(len(self._segments) - 1, offset, request.key, self._run, spent, half=half)

    def spent(self, run: str) -> tuple[int, int]:
        """(prompt, completion) tokens over the entries of that run; worst case where not told."""
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
        """Flush to the disk and let go of the files; the journal may still be read afterwards."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except OSError as error:
                raise self._unwritable(error) from error

    def _entry(self, request: Request, reply: Reply, spent: tuple[int, int]) -> dict[str, Any]:
        self._last_time = max(self._last_time, time.time())  # the clock may be set back
        fields = {name: getattr(reply, name) for name in Reply.__slots__}
        # What opening reads comes first, in this order (_HEAD).
        entry: dict[str, Any] = {"key": request.key, "run": self._run, "spent": spent}
        entry |= {} if reply.batch is None else {"half": True}
        entry |= {"id": request.id, "candidate": request.candidate, "model": self._model}
        return entry | {"time": self._last_time} | fields | {"text": clean(reply.text)}

    def _listed(self) -> list[Path]:
        with _reading(self._folder):
            if not self._folder.exists():
                return []
            names = sorted(os.listdir(self._folder))
        return [self._folder / name for name in names if _SEGMENT.fullmatch(name)]

    def _scan(self, path: Path) -> None:
        segment = len(self._segments)
        self._segments.append(path)
        with _reading(path), path.open("rb") as file:
            for offset, line in _lines(file):
                self._take(segment, offset, line)

    def _take(self, segment: int, offset: int, line: bytes) -> None:
        head = _HEAD.match(line) if _intact(line) else None
        if head is None:
            self._damaged += 1
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
        with _reading(self._segments[segment]):
            file = self._opened(segment)
            file.seek(offset)
            line = next(_pieces(0, file.readline()), (0, b""))[1]
        if _intact(line):
            entry: dict[str, Any] = json.loads(line)
            return entry
        self._damaged += 1
        return None

    def _opened(self, segment: int) -> BinaryIO:
        if self._open is None or self._open[0] != segment:
            if self._open is not None:
                self._open[1].close()
            self._open = None
            self._open = (segment, self._segments[segment].open("rb"))
        return self._open[1]

    def _drop_writer(self) -> None:
        """After a failed write, which may have left a torn line: the next one starts afresh."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.close()

    def _unwritable(self, error: OSError) -> CurateError:
        return CurateError(
            f"cannot write the journal in {self._folder}: {_why(error)}; "
            "nothing that was stored is lost: make room there and run the same command again"
        )


class _Writer:
    """One segment being written, and the thread that brings it to the disk in groups."""

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
        _sync_folder(folder)
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


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    body = _UNSAFE.sub("\ufffd", text)[:-1].encode()
    return body + b',"check":"%08x"}\n' % zlib.crc32(body)


def _intact(line: bytes) -> bool:
    tail = _TAIL.search(line, max(0, len(line) - _TAIL_BYTES))
    return tail is not None and int(tail[1], 16) == zlib.crc32(memoryview(line)[: tail.start()])


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(offset, line); two lines that lost the newline between them come as two."""
    offset = 0
    for line in file:
        if _intact(line):
            yield offset, line
        elif line.strip():
            yield from _pieces(offset, line)
        offset += len(line)


def _pieces(offset: int, line: bytes) -> Iterator[tuple[int, bytes]]:
    # Inside a JSON string the quotes would be escaped: these bytes only ever start an entry.
    starts = [match.start() for match in re.finditer(re.escape(_START), line)]
    bounds = sorted({0, *starts, len(line)})
    for start, end in pairwise(bounds):
        yield offset + start, line[start:end]


def _short(key: str) -> int:
    """60 bits of the key: half the memory of all; the entry itself settles a collision."""
    return int(key[:15], 16)


def _reply(entry: dict[str, Any]) -> Reply:
    return Reply(**{name: entry[name] for name in Reply.__slots__ if name in entry})


@contextmanager
def _reading(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CurateError(f"cannot read the journal {where}: {_why(error)}") from error


def _sync_folder(folder: Path) -> None:
    """Make the new segment's name survive a power cut, where the file system can."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
