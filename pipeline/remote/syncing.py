"""What was last synced between a working folder and a store, and what that makes of a file now."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..base.foreign_json import parse_json

_PART = 1 << 20
Stat = tuple[int, int]
"""Size and mtime_ns of a file here."""
Action = Literal["none", "push", "fetch", "remove here", "remove there", "forget", "settle"]


@dataclass(frozen=True, slots=True)
class Synced:
    """A file as it was on both sides; `here` is None where it is to be pushed in any case."""

    here: Stat | None
    there: str


def action(here: Stat | None, there: str | None, known: Synced | None) -> Action:
    """What is to be done with a file, by what it is on either side (None: absent) and was on both.

    >>> action((3, 7), "3:b", Synced((3, 7), "3:a"))
    'fetch'
    """
    changed_here = here != known.here if known else here is not None
    changed_there = there != known.there if known else there is not None
    if changed_here and changed_there:
        if here is None:
            return "forget" if there is None else "fetch"
        return "settle"
    if changed_here:
        return "remove there" if here is None else "push"
    if changed_there:
        return "remove here" if there is None else "fetch"
    return "none"


class Index:
    """What was last synced, by name; a line is added for each change, so that a crash loses none.

    A damaged line is as if it had not been written: then both sides are compared.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Synced] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            self._take(line)

    def get(self, name: str) -> Synced | None:
        """How a file was on both sides."""
        return self._known.get(name)

    def names(self) -> Iterator[str]:
        """All files that are on both sides, as far as is known."""
        return iter(list(self._known))

    def note(self, name: str, synced: Synced | None) -> None:
        """A file is the same on both sides now; None where it is on neither."""
        if synced is None:
            self._known.pop(name, None)
        else:
            self._known[name] = synced
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(name, synced))

    def compact(self) -> None:
        """Write it anew without what is outdated; no other process may write it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.tmp")
        lines = (_line(name, synced) for name, synced in self._known.items())
        fresh.write_text("".join(lines), "utf-8")
        fresh.replace(self._path)

    def _take(self, line: str) -> None:
        try:
            name, here, there = parse_json(line)
            if there is None:
                self._known.pop(name, None)
            else:
                self._known[name] = Synced((here[0], here[1]) if here else None, there)
        except (ValueError, TypeError, IndexError):
            return


def _line(name: str, synced: Synced | None) -> str:
    here = list(synced.here) if synced and synced.here else None
    return json.dumps([name, here, synced.there if synced else None]) + "\n"


def stat_of(path: Path) -> Stat | None:
    """What changes with a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def begins_with(longer: Path, shorter: Path) -> bool:
    """Whether one file's bytes are the beginning of another's."""
    with longer.open("rb") as long, shorter.open("rb") as short:
        while part := short.read(_PART):
            if long.read(len(part)) != part:
                return False
    return True
