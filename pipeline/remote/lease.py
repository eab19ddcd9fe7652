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

from ..base.progress import say
from ..base.sharding import WHOLE, Share
from ..errors import CurateError
from ..inputs.urls import Store, scheme, speaking
from ..run.lock import DEAD_AFTER, go_together, in_words, is_lock, lives_here, lock_name, signed

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
    store: Store,
    what: str,
    *,
    name: str | None = None,
    share: Share = WHOLE,
    wait: bool = False,
    pace: Pace | None = None,
) -> Iterator["Lease"]:
    """Hold the lease of a folder, of a share of it, or of this name.

    CurateError names who holds it, or what does not go with it, if that lives; with `wait` it is
    waited for.
    """
    what = what if share.whole else f"{what} --shard {share}"
    lease = Lease(store, what, name or lock_name(share), pace or Pace())
    with speaking(store.url):
        lease.acquire(wait=wait)
    stop = threading.Event()
    beating = threading.Thread(target=lease.beat, args=(stop,), daemon=True)
    beating.start()
    try:
        if name is None:
            with speaking(store.url):
                lease.refuse_others(share)
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
        self._me = signed(what, uuid.uuid4().hex)
        self._beats = 0

    def acquire(self, *, wait: bool = False) -> None:
        """Come to hold it, in a dead holder's place where there is one."""
        while True:
            holder = self._holder()
            if holder is None:
                if self._created():
                    return
                continue
            refused = self._refused({self._path: holder}, wait=wait)
            if not refused and self._succeeds(holder, wait=wait):
                return

    def refuse_others(self, share: Share) -> None:
        """CurateError where a lock that does not go with a share has a living holder.

        Those of dead ones are removed, since it takes long to tell.
        """
        found = {}
        for path in self._store.fs.ls(self._store.root, detail=False):
            name = path.rpartition("/")[2]
            if is_lock(name) and name != self._name and not go_together(name, share):
                found[path] = holder_at(self._store, path)
        others = {path: holder for path, holder in found.items() if holder is not None}
        self._refused(others)
        for path, holder in others.items():
            if holder_at(self._store, path) == holder:
                self._store.fs.rm_file(path)

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
        there = created(self._store, self._path, self._signature())
        return bool(_read(there).get("token") == self._me["token"])

    def _put(self) -> None:
        self._store.fs.pipe_file(self._path, self._signature())

    def _signature(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._me, "beat": self._beats}).encode()

    def _holder(self) -> dict[str, Any] | None:
        return holder_at(self._store, self._path)

    def _refused(self, holders: dict[str, dict[str, Any]], *, wait: bool = False) -> bool:
        """CurateError where one of the holders lives; with `wait` whether one does, after a bit."""
        living = self._living(holders, quiet=wait)
        if living is not None and not wait:
            raise CurateError(
                f"{self._store.url} is in use: {in_words(living)}; wait for it or stop it"
            )
        time.sleep(self._pace.look if living else 0)
        return living is not None

    def _living(self, holders: dict[str, dict[str, Any]], *, quiet: bool) -> dict[str, Any] | None:
        """A holder that lives; the objects of those elsewhere are looked at for a change."""
        here = {path: lives_here(holder) for path, holder in holders.items()}
        for path, lives in here.items():
            if lives:
                return holders[path]
        silent = {path: holder for path, holder in holders.items() if here[path] is None}
        if silent and not quiet:
            say(
                f"{self._store.url} is held: {in_words(next(iter(silent.values())))}, unless it is "
                f"dead; looking for a sign of life for up to {self._pace.dead_after:.0f} s"
            )
        begun = time.monotonic()
        while silent and time.monotonic() - begun < self._pace.dead_after:
            time.sleep(self._pace.look)
            now = {path: holder_at(self._store, path) for path in silent}
            for path, holder in now.items():
                if holder is not None and holder != silent[path]:
                    return holder
            silent = {path: holder for path, holder in silent.items() if now[path] is not None}
        return None

    def _succeeds(self, dead: dict[str, Any], *, wait: bool) -> bool:
        """Replace a dead holder's object; False when others came first."""
        name = f"{self._name}.after.{dead.get('token')}"
        succession = Lease(self._store, self._me["what"], name, self._pace)
        succession.acquire(wait=wait)
        try:
            if self._holder() != dead:
                return False
            self._put()
            return True
        finally:
            succession.release()


class LeaseLost(CurateError):
    """Another process holds what this one held."""


def created(store: Store, path: str, content: bytes) -> bytes:
    """Put an object where none is; what is there then, by whomever."""
    try:
        store.fs.pipe_file(path, content, mode="create")
        # Where creating is not exclusive, the later one of two has it.
        time.sleep(0 if scheme(store.url) in _EXCLUSIVE else _SETTLES)
    except OSError as error:  # EINVAL: what s3fs makes of servers that give no more than 412
        if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
            raise
    # It may be there by one's own request, which was repeated.
    there: bytes = store.fs.cat_file(path)
    return there


def holder_at(store: Store, path: str) -> dict[str, Any] | None:
    """Who an object names: nobody if it is damaged; None where there is none."""
    try:
        return _read(store.fs.cat_file(path))
    except FileNotFoundError:
        return None


def _read(text: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
