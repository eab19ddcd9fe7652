"""What the locks of a working folder mean in the store: to one of several tasks, and to who looks.

Each task has a working folder of its own. They agree on one config.json. In its turn a task brings
here what the others made, looks, and brings there what it made, before the next one's turn: so the
last to come has seen all.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..base.files import write_json
from ..inputs.urls import Store, modified, speaking
from ..run.directory import RunDir, refuse_changes
from ..run.lock import Holder, is_lock, told
from .lease import created, holder_at, leased
from .mirror import CONFIG, Mirror


class Onlooker:
    """Takes no lock, but sees them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begun(self) -> None:
        """Nothing is begun."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody waits."""
        yield

    def holders(self) -> list[Holder]:
        """Who holds the locks in the store."""
        return holders_at(self._store)


class Task:
    """One of several that work into the run."""

    def __init__(self, mirror: Mirror, what: str) -> None:
        self._mirror, self._what = mirror, what
        mirror.withheld.add(CONFIG)

    def begun(self) -> None:
        """Bring config.json there, or take that of the task that was first.

        Raises CurateError naming the field in which they differ.
        """
        store, run = self._mirror.store, RunDir(self._mirror.folder)
        mine = (run.path / CONFIG).read_bytes()
        with speaking(store.url):
            theirs = json.loads(created(store, store.path(CONFIG), mine))
        if theirs["id"] != run.config["id"]:
            refuse_changes(store.url, theirs["identity"], run.config["identity"])
            write_json(run.path / CONFIG, theirs)
        self._mirror.withheld.discard(CONFIG)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """In the body no other task looks; what they made is here, and what is made goes there."""
        mirror = self._mirror
        with leased(mirror.store, self._what, name=".turn", wait=True):
            mirror.pull()
            yield
            with speaking(mirror.store.url):
                mirror.push(last=True)

    def holders(self) -> list[Holder]:
        """Who holds the locks in the store."""
        return holders_at(self._mirror.store)


def holders_at(store: Store) -> list[Holder]:
    """Who holds the locks of a folder; those elsewhere live if they were touched lately.

    For people to read: it compares two clocks.
    """
    with speaking(store.url):
        try:
            listed = store.fs.ls(store.root, detail=True)
        except FileNotFoundError:
            return []
        locks = [info for info in listed if is_lock(info["name"].rpartition("/")[2])]
        found = [told(holder_at(store, i["name"]) or {}, _age(modified(i))) for i in locks]
    return [holder for holder in found if holder is not None]


def _age(written: float | None) -> float:
    return 0.0 if written is None else time.time() - written
