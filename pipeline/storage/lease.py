"""One writer for a run in an object store: an object that names its holder and beats.

The rules are those of `lock`, with objects for files. A holder elsewhere is dead when its object
stays the same for two minutes on the clock of the one who looks: no two clocks are compared. A dead
holder's object is replaced by the one process that holds the object of its succession.
"""

import errno
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import CurateError
from ..progress import say
from .lock import DEAD_AFTER, in_words, lives_here, signed
from .urls import Store, scheme, speaking

LOCK = ".lock"
_EXCLUSIVE = ("s3", "gs", "gcs", "memory")
"""Where `mode="create"` is one request, which fails if the object is there."""
_SETTLES = 1.0  # seconds, elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: between two beats; without one until a holder is dead; between two looks at it."""

    beat: float = 10.0
    dead_after: float = DEAD_AFTER
    look: float = 2.0


@contextmanager
def leased(
    store: Store, what: str, *, name: str = LOCK, pace: Pace | None = None
) -> Iterator["Lease"]:
    """Hold the lease of a folder; CurateError names who does if another living process does."""
    lease = Lease(store, what, store.path(name), pace or Pace())
    with speaking(store.url):
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

    def __init__(self, store: Store, what: str, path: str, pace: Pace) -> None:
        self._store, self._path, self._pace = store, path, pace
        self._me = signed(what, uuid.uuid4().hex)
        self._beats = 0

    def acquire(self) -> None:
        """Come to hold it, in a dead holder's place where there is one."""
        while True:
            holder = self._holder()
            if holder is None:
                if self._created():
                    return
            elif self._is_dead(holder) and self._succeeds(holder):
                return

    def check(self) -> None:
        """CurateError where another has taken this one for dead."""
        holder = self._holder() or {}
        if holder.get("token") != self._me["token"]:
            taken = f"taken over: {in_words(holder)}" if holder else "ended: its lock was removed"
            raise LeaseLost(f"the work on {self._store.url} was {taken}")

    def beat(self, stop: threading.Event) -> None:
        """Change the object now and then, until told to stop or another holds it."""
        while not stop.wait(self._pace.beat):
            with suppress(Exception):  # a store out of reach: the next push says so
                self.check()
                self._put()

    def release(self) -> None:
        """Take the object away, if it is still this one's."""
        with suppress(Exception):  # a store out of reach: whoever comes finds a dead holder
            self.check()
            self._store.fs.rm_file(self._path)

    def _created(self) -> bool:
        try:
            self._put(mode="create")
            # Where creating is not exclusive, the later one of two is the holder.
            time.sleep(0 if scheme(self._store.url) in _EXCLUSIVE else _SETTLES)
        except OSError as error:  # EINVAL: what s3fs makes of servers that give no more than 412
            if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                raise
        # It may be there by one's own request, which was repeated.
        return bool((self._holder() or {}).get("token") == self._me["token"])

    def _put(self, **mode: str) -> None:
        self._beats += 1
        text = json.dumps({**self._me, "beat": self._beats})
        self._store.fs.pipe_file(self._path, text.encode(), **mode)

    def _holder(self) -> dict[str, Any] | None:
        return holder_at(self._store, self._path)

    def _is_dead(self, holder: dict[str, Any]) -> bool:
        """Whether a holder is; CurateError where it lives."""
        here = lives_here(holder)
        if here is None:
            here = self._beats_on(holder)
        if here:
            raise CurateError(
                f"{self._store.url} is in use: {in_words(holder)}; wait for it or stop it"
            )
        return True

    def _beats_on(self, holder: dict[str, Any]) -> bool:
        """Whether the object of a holder elsewhere changes while it is looked at."""
        say(
            f"{self._store.url} is held: {in_words(holder)}, unless it is dead; looking for a sign "
            f"of life for up to {self._pace.dead_after:.0f} s"
        )
        begun = time.monotonic()
        while time.monotonic() - begun < self._pace.dead_after:
            time.sleep(self._pace.look)
            now = self._holder()
            if now != holder:
                return now is not None
        return False

    def _succeeds(self, dead: dict[str, Any]) -> bool:
        """Replace a dead holder's object; False when others came first."""
        path = f"{self._path}.after.{dead.get('token')}"
        succession = Lease(self._store, self._me["what"], path, self._pace)
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
    """Who an object names: nobody if it is damaged; None where there is none."""
    try:
        holder = json.loads(store.fs.cat_file(path))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
