"""One writer for a run directory: a lock file that names its holder.

No fcntl: network file systems do not always honour it. Creating a file exclusively, renaming and
reading one are enough. A holder on this machine is dead when its process is; one elsewhere when
its lock has not been touched for two minutes.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CurateError
from .files import writable

_HEARTBEAT = 20.0
_DEAD_AFTER = 120.0


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Hold the folder's lock; CurateError names who does if another living process does."""
    path = folder / ".lock"
    with writable(path):
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(path, what)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        path.unlink(missing_ok=True)


def _acquire(path: Path, what: str) -> None:
    me = {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(),
          "started": _started(os.getpid()), "what": what, "token": uuid.uuid4().hex}  # fmt: skip
    claim = path.with_name(f".lock.{me['token']}")
    claim.write_text(json.dumps(me), "utf-8")
    try:
        while True:
            try:
                os.link(claim, path)  # fails if the lock is there; whole if it succeeds
                return
            except FileExistsError:
                _clear_if_dead(path)
    finally:
        claim.unlink(missing_ok=True)


def _clear_if_dead(path: Path) -> None:
    """Remove a dead holder's lock. Of several that try, one moves it away and wins nothing else."""
    try:
        holder = json.loads(path.read_text("utf-8"))
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    except ValueError:
        holder, age = {}, _DEAD_AFTER + 1
    if _alive(holder, age):
        raise CurateError(
            f"{path.parent} is in use: `curate {holder.get('what')}` runs as process "
            f"{holder.get('pid')} on {holder.get('host')}; wait for it or stop it"
        )
    grave = path.with_name(f".lock.dead.{uuid.uuid4().hex}")
    try:
        os.rename(path, grave)
        if json.loads(grave.read_text("utf-8") or "{}").get("token") != holder.get("token"):
            os.link(grave, path)  # another's fresh lock was caught: put it back
    except (FileNotFoundError, FileExistsError, ValueError):
        pass
    finally:
        grave.unlink(missing_ok=True)


def _alive(holder: dict[str, Any], age: float) -> bool:
    if holder.get("host") != socket.gethostname():
        return bool(holder) and age < _DEAD_AFTER
    if holder.get("boot") != _boot():
        return False
    pid = int(holder.get("pid", 0))
    return pid != os.getpid() and _started(pid) == holder.get("started")


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
