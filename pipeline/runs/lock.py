"""One writer for a run directory, or one for each share of it: lock files that name their holders.

No fcntl: network file systems do not always honour it. Creating a file exclusively, replacing and
reading one are enough. A holder whose process ids are ours is dead when its process is. A holder
elsewhere, or one that a damaged lock does not name, is dead when the lock has not been touched for
two minutes by the file system's own clock. An empty lock, which a power cut leaves, is nobody's.
The lock of a dead holder is never removed, or two could come in: it is replaced, by the one process
that holds the lock of its succession. A holder that was taken for dead notices it before it
publishes a file.
"""

import json
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.checksums import checksum_holds, with_checksum
from ..base.files import checked_publications, writable
from ..base.foreign_json import parse_json
from ..base.processes.process_ids import machine, started
from ..base.processes.sharding import WHOLE, Share
from ..errors import CurateError

DEAD_AFTER = 120.0
_HEARTBEAT = 20.0
_GIVE_UP = 75.0
"""Seconds without a heartbeat after which the work stops: before another may take the lock."""
_WAIT = 0.1
_LOCK = re.compile(r"\.lock(?:-\d+-of-(\d+))?")
LEASE = ".lease"
"""In a working folder, a copy of the lock of the store's folder that it mirrors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whom a lock names; `seen` is how many seconds ago it was last touched."""

    what: str
    pid: int
    host: str
    alive: bool
    seen: float


def holders(folder: Path) -> list[Holder]:
    """Who holds a folder's locks, or died with one; reads only."""
    found = []
    for path in [*_locks(folder), folder / LEASE]:
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            continue  # absent, or removed meanwhile
        if (holder := _named(_holder(path) or {}, age)) is not None:
            found.append(holder)
    return found


def _named(holder: dict[str, Any], age: float) -> Holder | None:
    """The holder that a lock of an age in seconds names; None where it names nobody."""
    try:
        pid = int(holder["pid"])
    except (KeyError, ValueError, TypeError):
        return None
    what, host = (str(holder.get(name)) for name in ("what", "host"))
    return Holder(what=what, pid=pid, host=host, alive=_alive(holder, age), seen=max(age, 0))


@contextmanager
def run_lock(folder: Path, what: str, *, share: Share = WHOLE) -> Iterator[None]:
    """Hold the folder's lock; CurateError names the holder if another living process has it.

    Tasks hold a lock each, and refuse what does not go with them: a process that holds the whole
    folder, and tasks that share it out in another number. Each side takes its own lock first and
    then looks for the other's, so that of two at once one at least gives way.
    """
    path = folder / lock_name(share)
    with _lock(path, what if share.whole else f"{what} --shard {share}", place=folder):
        for other in _locks(folder):
            if other != path and not _go_together(other.name, share):
                _dead_holder(other, _touched(path), place=folder)
        yield


@contextmanager
def turn_lock(folder: Path, what: str) -> Iterator[None]:
    """Let one task in after another: wait while another living one is within."""
    with _lock(folder / ".turn", what, place=folder, wait=True):
        yield


@contextmanager
def output_lock(out: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file or folder that is replaced as a whole; it lies beside it."""
    with _lock(out.with_name(f".{out.name}.lock"), what, place=out):
        yield


def lock_name(share: Share) -> str:
    """The lock of a whole folder, or of one task's share of it."""
    return ".lock" if share.whole else f".lock-{share.index}-of-{share.of}"


def signature(what: str, token: str) -> dict[str, Any]:
    """What a lock says of this process."""
    return {"host": socket.gethostname(), "machine": machine(), "pid": os.getpid(),
            "started": started(os.getpid()), "what": what, "token": token}  # fmt: skip


def lives_here(holder: dict[str, Any]) -> bool | None:
    """Whether a holder's process lives; None where its process ids are not ours."""
    if holder.get("machine") != machine():
        return None
    pid = holder.get("pid")
    return isinstance(pid, int) and started(pid) == holder.get("started")


def moved(place: Path) -> str:
    """What is said of a folder that is gone while it is worked in."""
    return (
        f"{place} is not there any more: if it was moved, run the same command with its new place; "
        "what was finished is in it"
    )


def describe(holder: dict[str, Any]) -> str:
    """Who a holder is, for a person."""
    return (
        f"`curate {holder.get('what')}` runs as process {holder.get('pid')} on {holder.get('host')}"
    )


def _locks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(".lock*") if _LOCK.fullmatch(path.name))


def _go_together(other: str, share: Share) -> bool:
    """Whether the holder of a lock may work beside a share."""
    task = _LOCK.fullmatch(other)
    return not share.whole and task is not None and task[1] == str(share.of)


# --- holding --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Lock:
    """A lock that this process holds, as long as it is not `lost`."""

    path: Path
    token: str
    place: Path
    lost: str = ""

    def check(self) -> None:
        """CurateError where the lock is lost or names another."""
        holder = None if self.lost else _holder(self.path)
        if holder is not None and holder.get("token") == self.token:
            return
        if not self.lost and not os.path.exists(self.path.parent):
            raise CurateError(moved(self.place))
        self.lost = self.lost or (describe(holder) if holder else "its lock was removed")
        raise CurateError(
            f"the work on {self.place} was stopped: {self.lost}; what was finished before is "
            "kept, run the same command again to go on"
        )

    def touch(self) -> None:
        """A sign of life, where the lock is this process's still."""
        self.check()
        os.utime(self.path)


@contextmanager
def _lock(path: Path, what: str, *, place: Path, wait: bool = False) -> Iterator[None]:
    lock = _Lock(path, uuid.uuid4().hex, place)
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _acquired(lock, what, wait):
            time.sleep(_WAIT)
    stop = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    threading.Thread(target=_beat, args=(lock, stop, main), daemon=True).start()
    try:
        with checked_publications(path.parent, lock.check):
            yield
    except KeyboardInterrupt:
        if lock.lost:
            lock.check()
        raise
    finally:
        stop.set()
        with suppress(OSError):  # out of reach: whoever comes finds a dead holder
            if (_holder(path) or {}).get("token") == lock.token:  # else another took it for dead
                path.unlink(missing_ok=True)


def _beat(lock: _Lock, stop: threading.Event, main: bool) -> None:
    """Touch the lock now and then; end the work once that has failed for long."""
    last = time.monotonic()
    while not stop.wait(_HEARTBEAT):
        try:
            lock.touch()
            last = time.monotonic()
        except OSError as error:
            if time.monotonic() - last < _GIVE_UP:
                continue
            lock.lost = f"its lock cannot be refreshed ({error.strerror or error})"
        except CurateError:  # of a folder that was moved, what is written next says so
            pass
        if lock.lost:
            if main:
                _interrupt()
            return


def _interrupt() -> None:
    """Raise KeyboardInterrupt in the main thread, out of a system call too."""
    heard = callable(signal.getsignal(signal.SIGTERM))  # in the background SIGINT may be ignored
    number = signal.SIGTERM if heard else signal.SIGINT
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def _acquired(lock: _Lock, what: str, wait: bool) -> bool:
    try:
        _acquire(lock.path, what, lock.token, place=lock.place)
    except CurateError:
        if not wait:
            raise
        return False
    return True


def _acquire(path: Path, what: str, token: str, *, place: Path) -> None:
    claim = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    claim.write_text(json.dumps(with_checksum(signature(what, token))), "utf-8")
    try:
        while True:
            try:
                os.link(claim, path)  # fails if the lock is there; whole if it succeeds
                return
            except FileExistsError:
                if _succeeds(claim, path, what, place=place):
                    return
    finally:
        claim.unlink(missing_ok=True)


def _succeeds(claim: Path, path: Path, what: str, *, place: Path) -> bool:
    """Replace a dead holder's lock by the claim; False when others came first."""
    holder = _dead_holder(path, _touched(claim), place=place)
    if holder is None:
        return False
    succession = path.with_name(f"{path.name}.after.{holder.get('token')}")
    _acquire(succession, what, uuid.uuid4().hex, place=place)
    try:
        if _holder(path) != holder:
            return False
        os.replace(claim, path)
        return True
    finally:
        succession.unlink(missing_ok=True)


# --- holders --------------------------------------------------------------------------------------


def _touched(path: Path) -> float:
    """When a file was last written or touched, by the file system's clock."""
    return path.stat().st_mtime


def _dead_holder(path: Path, now: float, *, place: Path) -> dict[str, Any] | None:
    """The dead holder of a lock, None where it is gone; CurateError for one that lives.

    `now` is the time of a file that was just written beside it: this machine's clock, and another
    one's, may be wrong by hours.
    """
    holder = _holder(path)
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    age = now - stat.st_mtime
    if holder == {} and stat.st_size and age < DEAD_AFTER:  # a power cut leaves an empty one
        raise CurateError(
            f"{place} may be in use: {path} is damaged, and whoever holds it touched it "
            f"lately; wait {DEAD_AFTER:.0f} s, or remove it if nobody does"
        )
    if holder and _alive(holder, age):
        raise CurateError(f"{place} is in use: {describe(holder)}; wait for it or stop it")
    return holder


def _holder(path: Path) -> dict[str, Any] | None:
    """Whom a lock names: nobody where it is damaged; None where it is gone."""
    try:
        holder = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) and checksum_holds(holder) else {}


def _alive(holder: dict[str, Any], age: float) -> bool:
    here = lives_here(holder)
    return age < DEAD_AFTER if here is None else here
