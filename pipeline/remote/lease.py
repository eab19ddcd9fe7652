"""One writer for a run in an object store: an object that names its holder and changes as it lives.

The rules are those of `lock`, with objects for files. A holder elsewhere is dead when its object
stays the same for two minutes on the clock of the one who looks: no two clocks are compared. A dead
holder's object is replaced by the one process that holds the object of its succession.
"""

import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..base.foreign_json import parse_json
from ..base.processes.sharding import WHOLE
from ..base.progress import say
from ..errors import CurateError
from ..inputs.remote.urls import Store, scheme, store_errors
from ..runs.lock import DEAD_AFTER, describe, lives_here, lock_name, signature

_EXCLUSIVE = ("s3", "gs", "gcs", "memory")
"""Where `mode="create"` is one request, which fails if the object is there."""
_SETTLES = 1.0  # seconds, elsewhere
LOCK = lock_name(WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: between two beats; without one until a holder is dead; between two looks at it."""

    beat: float = 10.0
    dead_after: float = DEAD_AFTER
    look: float = 2.0


@contextmanager
def hold_lease(
    store: Store, what: str, *, name: str = LOCK, pace: Pace | None = None
) -> Iterator["Lease"]:
    """Hold the lease of a folder, or of this name in it.

    CurateError names who holds it, if that lives.
    """
    lease = Lease(store, what, name, pace or Pace())
    with store_errors(store.url):
        lease.acquire()
    stop = threading.Event()
    beating = threading.Thread(target=lease.beat, args=(stop,), daemon=True)
    beating.start()
    try:
        yield lease
    finally:
        stop.set()
        beating.join()
        lease.release()


class Lease:
    """One process's claim to a folder."""

    def __init__(self, store: Store, what: str, name: str, pace: Pace) -> None:
        self._store, self._name, self._pace = store, name, pace
        self._path = store.path(name)
        self._me = signature(what, uuid.uuid4().hex)
        self._beats = 0

    def acquire(self) -> None:
        """Come to hold it, in a dead holder's place where there is one."""
        while True:
            holder = self._holder()
            if holder is None:
                if self._created():
                    return
                continue
            self._refuse_living(holder)
            if self._succeeds(holder):
                return

    def check(self) -> None:
        """CurateError where another has taken this one for dead."""
        holder = self._holder() or {}
        if holder.get("token") != self._me["token"]:
            taken = f"taken over: {describe(holder)}" if holder else "ended: its lock was removed"
            raise LeaseLost(f"the work on {self._store.url} was {taken}")

    def beat(self, stop: threading.Event) -> None:
        """Change the object now and then, until stopped or another holds it."""
        while not stop.wait(self._pace.beat):
            with suppress(Exception):  # a store out of reach: the next push says so
                self.check()
                self._put()

    def release(self) -> None:
        """Remove the object, if it is still this one's."""
        with suppress(Exception):  # a store out of reach: whoever comes finds a dead holder
            self.check()
            self._store.fs.rm_file(self._path)

    def _created(self) -> bool:
        """Put the object where none is; whether it is this one's then."""
        try:
            self._store.fs.pipe_file(self._path, self._signature(), mode="create")
            # Where creating is not exclusive, the later one of two has it.
            time.sleep(0 if scheme(self._store.url) in _EXCLUSIVE else _SETTLES)
        except OSError as error:  # EINVAL: what s3fs makes of servers that give no more than 412
            if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                raise
        # It may be there by one's own request, which was repeated.
        return bool((self._holder() or {}).get("token") == self._me["token"])

    def _put(self) -> None:
        self._store.fs.pipe_file(self._path, self._signature())

    def _signature(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._me, "beat": self._beats}).encode()

    def _holder(self) -> dict[str, Any] | None:
        return holder_at(self._store, self._path)

    def _refuse_living(self, holder: dict[str, Any]) -> None:
        """CurateError for a holder that lives; one elsewhere is watched for a change."""
        alive = lives_here(holder)
        if alive and holder["pid"] == os.getpid():  # left when the store could not be reached
            return
        if alive is None:
            say(
                f"{self._store.url} is held: {describe(holder)}, unless it is dead; looking for a "
                f"sign of life for up to {self._pace.dead_after:.0f} s"
            )
            alive = self._changes(holder)
        if alive:
            raise CurateError(
                f"{self._store.url} is in use: {describe(holder)}; wait for it or stop it"
            )

    def _changes(self, holder: dict[str, Any]) -> bool:
        """Whether a holder's object changes before it counts as dead."""
        begun = time.monotonic()
        while time.monotonic() - begun < self._pace.dead_after:
            time.sleep(self._pace.look)
            now = self._holder()
            if now != holder:
                return now is not None
        return False

    def _succeeds(self, dead: dict[str, Any]) -> bool:
        """Replace a dead holder's object; False when others came first."""
        name = f"{self._name}.after.{dead.get('token')}"
        succession = Lease(self._store, self._me["what"], name, self._pace)
        succession.acquire()
        try:
            if self._holder() != dead:
                return False
            self._put()
            return True
        finally:
            succession.release()


class LeaseLost(CurateError):
    """Another process holds what this one held."""


def holder_at(store: Store, path: str) -> dict[str, Any] | None:
    """Whom an object names: nobody if it is damaged; None where there is none."""
    try:
        holder = parse_json(store.fs.cat_file(path))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
