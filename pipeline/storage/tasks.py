"""One of several tasks that work into a run in a store, each in a working folder of its own.

They agree on one config.json. In its turn a task brings here what the others made, looks, and
brings there what it made, before the next one's turn: so the last to come has seen all.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from .files import write_json
from .lease import created, leased
from .mirror import CONFIG, Mirror
from .rundir import RunDir, refuse_changes
from .urls import speaking


class Task:
    """What the locks of a task's working folder mean in the store."""

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
