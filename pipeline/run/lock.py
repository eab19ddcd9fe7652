"""One writer for a run directory, or one for each share of it: lock files that name their holders.

No fcntl: network file systems do not always honour it. Creating a file exclusively, replacing and
reading one are enough. A holder on this machine is dead when its process is; one elsewhere, or one
that a damaged lock does not name, when the lock has not been touched for two minutes by the file
system's own clock. An empty lock, which a power cut leaves, is nobody's. A dead holder's lock is
never taken away, or two could come in: it is replaced, by the one process that holds the lock of
its succession.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..base.checksums import agrees, with_check
from ..base.files import writable
from ..base.sharding import WHOLE, Share
from ..errors import CurateError

_HEARTBEAT = 20.0
DEAD_AFTER = 120.0
_WAIT = 0.1
_LOCK = re.compile(r"\.lock(?:-\d+-of-(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who a lock names; `seen` is how many seconds ago it was last touched."""

    what: str
    pid: int
    host: str
    alive: bool
    seen: float


class Elsewhere(Protocol):
    """What the locks of a folder mean in the place that it mirrors."""

    def begun(self) -> None:
        """This task holds its lock."""

    def turn(self) -> AbstractContextManager[None]:
        """It is this task's turn there too."""

    def holders(self) -> list[Holder]:
        """Who holds its locks there."""


_elsewhere: dict[Path, Elsewhere] = {}


def holders(folder: Path) -> list[Holder]:
    """Who holds a folder's locks, or died with one; reads only."""
    found = []
    for path in _locks(folder):
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            continue  # gone meanwhile
        if (named := told(_holder(path) or {}, age)) is not None:
            found.append(named)
    return found + (_elsewhere[folder].holders() if folder in _elsewhere else [])


def told(holder: dict[str, Any], age: float) -> Holder | None:
    """What a lock of an age in seconds tells of its holder; None where it names nobody."""
    try:
        pid = int(holder["pid"])
    except (KeyError, ValueError, TypeError):
        return None
    what, host = (str(holder.get(name)) for name in ("what", "host"))
    return Holder(what=what, pid=pid, host=host, alive=_alive(holder, age), seen=max(age, 0))


@contextmanager
def run_lock(folder: Path, what: str, *, share: Share = WHOLE) -> Iterator[None]:
    """Hold the folder's lock; CurateError names who does if another living process does.

    Tasks hold a lock each, and refuse what does not go with them: a process that holds the whole
    folder, and tasks that share it out in another number. Each side takes its own lock first and
    then looks for the other's, so that of two at once one at least gives way.
    """
    path = folder / lock_name(share)
    with _holding(path, what if share.whole else f"{what} --shard {share}"):
        for other in _locks(folder):
            if other != path and not go_together(other.name, share):
                _living_refused(other, _touched(path))
        if folder in _elsewhere:
            _elsewhere[folder].begun()
        yield


@contextmanager
def turn_lock(folder: Path, what: str) -> Iterator[None]:
    """One task after another: waits while another living one is within."""
    there = _elsewhere.get(folder)
    with _holding(folder / ".turn", what, wait=True), there.turn() if there else nullcontext():
        yield


@contextmanager
def also_held(folder: Path, there: Elsewhere) -> Iterator[None]:
    """In the body the folder's locks are held there too."""
    _elsewhere[folder] = there
    try:
        yield
    finally:
        del _elsewhere[folder]


def lock_name(share: Share) -> str:
    """The lock of a whole folder, or of one task's share of it."""
    return ".lock" if share.whole else f".lock-{share.index}-of-{share.of}"


def is_lock(name: str) -> bool:
    """Whether a file is one of a folder's locks."""
    return _LOCK.fullmatch(name) is not None


def signed(what: str, token: str) -> dict[str, Any]:
    """What a lock says of this process."""
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(),
            "started": _started(os.getpid()), "what": what, "token": token}  # fmt: skip


def lives_here(holder: dict[str, Any]) -> bool | None:
    """Whether a holder is another living process of this machine; None for one elsewhere."""
    if holder.get("host") != socket.gethostname():
        return None
    if holder.get("boot") != _boot():
        return False
    pid = int(holder.get("pid", 0))
    return pid != os.getpid() and _started(pid) == holder.get("started")


def in_words(holder: dict[str, Any]) -> str:
    """Who a holder is, for a person."""
    return (
        f"`curate {holder.get('what')}` runs as process {holder.get('pid')} on {holder.get('host')}"
    )


def _locks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(".lock*") if is_lock(path.name))


def go_together(other: str, share: Share) -> bool:
    """Whether the holder of a lock may work beside a share."""
    task = _LOCK.fullmatch(other)
    return not share.whole and task is not None and task[1] == str(share.of)


@contextmanager
def _holding(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    token = uuid.uuid4().hex
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _acquired(path, what, token, wait):
            time.sleep(_WAIT)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        if (_holder(path) or {}).get("token") == token:  # else another took this one for dead
            path.unlink(missing_ok=True)


def _acquired(path: Path, what: str, token: str, wait: bool) -> bool:
    try:
        _acquire(path, what, token)
    except CurateError:
        if not wait:
            raise
        return False
    return True


def _acquire(path: Path, what: str, token: str) -> None:
    claim = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    claim.write_text(json.dumps(with_check(signed(what, token))), "utf-8")
    try:
        while True:
            try:
                os.link(claim, path)  # fails if the lock is there; whole if it succeeds
                return
            except FileExistsError:
                if _succeeds(claim, path, what):
                    return
    finally:
        claim.unlink(missing_ok=True)


def _succeeds(claim: Path, path: Path, what: str) -> bool:
    """Replace a dead holder's lock by the claim; False when others came first."""
    holder = _living_refused(path, _touched(claim))
    if holder is None:
        return False
    succession = path.with_name(f"{path.name}.after.{holder.get('token')}")
    _acquire(succession, what, uuid.uuid4().hex)
    try:
        if _holder(path) != holder:
            return False
        os.replace(claim, path)
        return True
    finally:
        succession.unlink(missing_ok=True)


def _touched(path: Path) -> float:
    """When a file was last written or touched, by the file system's clock."""
    return path.stat().st_mtime


def _living_refused(path: Path, now: float) -> dict[str, Any] | None:
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
            f"{path.parent} may be in use: {path} is damaged, and whoever holds it touched it "
            f"lately; wait {DEAD_AFTER:.0f} s, or remove it if nobody does"
        )
    if holder and _alive(holder, age):
        raise CurateError(f"{path.parent} is in use: {in_words(holder)}; wait for it or stop it")
    return holder


def _holder(path: Path) -> dict[str, Any] | None:
    """Who a lock names: nobody where it is damaged; None where it is gone."""
    try:
        holder = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) and agrees(holder) else {}


def _alive(holder: dict[str, Any], age: float) -> bool:
    here = lives_here(holder)
    return age < DEAD_AFTER if here is None else here


def _started(pid: int) -> str | None:
    """When a process began, in ticks since boot: a number used again is another process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _exists(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "there"
    return "there"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except FileNotFoundError:
        return ""


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_HEARTBEAT):
        try:
            os.utime(path)
        except OSError:
            return
