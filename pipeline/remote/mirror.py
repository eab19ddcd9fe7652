"""A run in an object store: a working folder here, brought there file by file and back.

Stores have no append, no rename, no links, so stages work on the folder. A file there is replaced
as a whole. What a manifest names is there before it, and what it no longer names goes after it.
"""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from json import dumps, loads
from pathlib import Path, PurePosixPath
from typing import Any

from ..base.foreign_json import read_object
from ..base.progress import say
from ..inputs.remote.urls import Store, modified, stays_inside, store_errors, tag
from ..runs.lock import LEASE
from .syncing import Index, Stat, Synced, action, begins_with, stat_of

CONFIG, MANIFEST = "config.json", "manifest.json"
AT_ONCE = 8  # downloads
# A journal that grows is pushed again and again: all of it after a tenth more, or so many seconds
# for each part of so many bytes. So the traffic stays within a multiple of what is written.
GROWN, AGE, PART = 0.1, 30.0, 8 << 20


class Mirror:
    """The working folder of a store's folder, or of the entries `only` of it."""

    def __init__(
        self, store: Store, home: Path, folder: Path, *, only: tuple[str, ...] | None = None
    ) -> None:
        """`home` holds what is known of the folder, which lies in it."""
        self.store, self.home, self.folder = store, home, folder
        self._only = only
        self._index = Index(home / "index.jsonl")
        self._aside = (
            home / "set-aside" / f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:4]}"
        )
        self._seen: dict[str, Stat] = {}
        self._journals: dict[str, tuple[int, float]] = {}  # size and time of the last push
        self.guard: Callable[[], None] = lambda: None
        """Raises where this process may not push any more."""
        self._at_work = threading.RLock()

    # --- from there ---

    def pull(self) -> None:
        """Bring here what changed there. What changed here since the last time stays, to be pushed.

        Where both did, no reply is lost: of two journals the longer one that begins with the other
        wins, or both are kept. Of all else what is there wins, and what was here is set aside.
        """
        with self._at_work, store_errors(self.store.url):
            self._index.compact()
            (self.folder / LEASE).unlink(missing_ok=True)
            there = self._listed()
            self._set_aside_another_run(there)
            here = self._files()
            names = sorted({*there, *here, *self._index.names()})
            wanted = [n for n in names if self._pulled(n, here.get(n), there.get(n)) == "fetch"]
            with ThreadPoolExecutor(AT_ONCE, "pull") as pool:
                for _ in pool.map(lambda name: self._fetch(name, there[name]), wanted):
                    pass

    def pull_lock(self, name: str) -> None:
        """Bring here who holds the lock of this name there, for people to read."""
        lease, path = self.folder / LEASE, self.store.path(name)
        with store_errors(self.store.url):
            try:
                self._downloaded(name, self.store.fs.info(path)).replace(lease)
            except FileNotFoundError:
                lease.unlink(missing_ok=True)

    def _listed(self) -> dict[str, Mapping[str, Any]]:
        """What is there, by name; nothing whose name leads elsewhere or begins with a dot."""
        self.store.fs.invalidate_cache()
        found: dict[str, Mapping[str, Any]] = {}
        roots = [self.store.root] if self._only is None else map(self.store.path, self._only)
        for root in roots:
            try:
                found |= self.store.fs.find(root, detail=True)
            except FileNotFoundError:
                continue
        prefix = f"{self.store.root}/"
        named = {path.removeprefix(prefix): info for path, info in found.items()
                 if path.startswith(prefix)}  # fmt: skip
        return {name: info for name, info in named.items() if self._is_ours(name)}

    def _is_ours(self, name: str) -> bool:
        parts = name.split("/")
        plain = stays_inside(name) and not any(part.startswith(".") for part in parts)
        return plain and (self._only is None or parts[0] in self._only)

    def _pulled(self, name: str, here: Stat | None, there: Mapping[str, Any] | None) -> str:
        """Do what needs no download; the action."""
        found = tag(there) if there is not None else None
        todo = action(here, found, self._index.get(name))
        if todo == "settle":
            self._settle(name, there)
        elif todo == "forget":
            self._index.note(name, None)
        elif todo == "remove here":
            (self.folder / name).unlink(missing_ok=True)
            self._index.note(name, None)
        return todo

    def _settle(self, name: str, there: Mapping[str, Any] | None) -> None:
        """A file that changed on both sides."""
        journal = PurePosixPath(name).parent.name == "journal" and name.endswith(".jsonl")
        mine = self.folder / name
        if there is None:
            if journal:
                self._index.note(name, None)  # so that it is pushed
            else:
                self._set_aside([name], "was removed")
                self._index.note(name, None)
            return
        theirs = self._downloaded(name, there)
        shorter, longer = sorted((mine, theirs), key=lambda path: path.stat().st_size)
        same = longer.stat().st_size == shorter.stat().st_size
        if (journal or same) and begins_with(longer, shorter):
            if longer == theirs and not same:
                self._take(name, theirs, there)
            else:
                theirs.unlink()
                self._index.note(name, Synced(stat_of(mine) if same else None, tag(there)))
            return
        if journal:
            mine.rename(mine.with_name(f"{mine.stem}-{uuid.uuid4().hex[:8]}.jsonl"))
        else:
            self._set_aside([name], "was changed")
        self._take(name, theirs, there)

    def _fetch(self, name: str, info: Mapping[str, Any]) -> None:
        with suppress(FileNotFoundError):  # removed by a job at work
            self._take(name, self._downloaded(name, info), info)

    def _downloaded(self, name: str, info: Mapping[str, Any]) -> Path:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            self.store.fs.get_file(self.store.path(name), str(fresh))
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        written = modified(info)
        if written is not None:  # what is older there is older here
            os.utime(fresh, (written, written))
        return fresh

    def _take(self, name: str, fresh: Path, info: Mapping[str, Any]) -> None:
        fresh.replace(self.folder / name)
        self._index.note(name, Synced(stat_of(self.folder / name), tag(info)))

    # --- what is here but belongs to another run ---

    def _set_aside_another_run(self, there: Mapping[str, Any]) -> None:
        for name in (CONFIG, *(f"{part}/{CONFIG}" for part in self._only or ())):
            mine = read_object(self.folder / name)
            known = self._index.get(name)
            if mine is None or "curate_run" not in mine:
                continue
            if name not in there and known is not None:
                self._set_aside_all("the run was removed")
            elif name in there and (known is None or tag(there[name]) != known.there):
                theirs = loads(self.store.fs.cat_file(self.store.path(name)))
                if theirs.get("id") != mine.get("id"):
                    self._set_aside_all("another run is")

    def _set_aside_all(self, what: str) -> None:
        self._set_aside(self._files(), what)
        for name in self._index.names():
            self._index.note(name, None)
        shutil.rmtree(self.folder)

    def _set_aside(self, names: Iterable[str], what: str) -> None:
        names = list(names)
        for name in names:
            place = self._aside / name
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.folder / name, place)
        files = names[0] if len(names) == 1 else f"{len(names)} files"
        say(
            f"note: {what} at {self.store.url} since the last time here; {files} set aside: "
            f"{self._aside}"
        )

    # --- to there ---

    def push(self, *, last: bool = False) -> None:
        """Bring there what is finished here; at `last` all of it, and journals whole.

        Raises whatever the store's client does.
        """
        with self._at_work:
            while not self._pushed(last) and last:
                continue

    def _pushed(self, last: bool) -> bool:
        """Whether all that is finished is there now."""
        manifest, files = self._manifest(), self._files()
        if manifest != self._manifest():
            return False
        known, stat = self._index.get(MANIFEST), files.get(MANIFEST)
        finishing = stat is not None and (known is None or known.here != stat)
        others = {*files} - {MANIFEST}
        due = [n for n in others if self._is_due(n, files[n], settled=last or finishing)]
        gone = [n for n in self._index.names() if n not in files] if last or finishing else []
        self._seen = files
        if not (due or gone or finishing):
            return True
        self.guard()
        if finishing and manifest is not None:
            self._retract(manifest)
        # What says what the run is comes first; then what is older, so that it is older there.
        due.sort(key=lambda name: (name != CONFIG, files[name][1], name))
        uploaded = all([self._upload(name, files[name]) for name in due])
        for name in gone:
            self._remove(name)
        if finishing and uploaded and manifest is not None:
            self.guard()
            self._put_manifest(manifest, stat)
        return uploaded and manifest == self._manifest()

    def push_one(self, name: str) -> None:
        """Bring one file there."""
        with store_errors(self.store.url):
            stat = stat_of(self.folder / name)
            if stat is not None:
                self._upload(name, stat)

    def _files(self) -> dict[str, Stat]:
        found = {}
        for place, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for file in files:
                name = (Path(place) / file).relative_to(self.folder).as_posix()
                stat = stat_of(self.folder / name) if self._is_ours(name) else None
                if stat is not None:
                    found[name] = stat
        return found

    def _manifest(self) -> bytes | None:
        try:
            return (self.folder / MANIFEST).read_bytes() if self._is_ours(MANIFEST) else None
        except OSError:
            return None

    def _is_due(self, name: str, stat: Stat, *, settled: bool) -> bool:
        known = self._index.get(name)
        if known is not None and known.here == stat:
            return False
        if settled:
            return True
        if PurePosixPath(name).parent.name != "journal":
            return self._seen.get(name) == stat  # not being written
        size, when = self._journals.get(name, (0, 0.0))
        waited = time.monotonic() - when
        return stat[0] >= size * (1 + GROWN) or waited >= AGE * max(1, stat[0] / PART)

    def _upload(self, name: str, stat: Stat) -> bool:
        """Whether the file is there now as it was listed."""
        place, path = self.folder / name, self.store.path(name)
        now = stat_of(place)
        grows = PurePosixPath(name).parent.name == "journal"
        if now is None or (now != stat and not grows):
            return False
        self.store.fs.put_file(str(place), path)
        info = self.store.fs.info(path)
        if int(info["size"]) < now[0]:
            raise OSError(f"{path} has {info['size']} bytes there, and {now[0]} here")
        self._index.note(name, Synced(now, tag(info)))
        self._journals[name] = (now[0], time.monotonic())
        return grows or stat_of(place) == now

    def _remove(self, name: str) -> None:
        if (self.folder / name).exists():
            return
        with suppress(FileNotFoundError):
            self.store.fs.rm_file(self.store.path(name))
        self._index.note(name, None)

    def _retract(self, manifest: bytes) -> None:
        """Take what is made anew out of the manifest there, before its files are touched."""
        path = self.store.path(MANIFEST)
        try:
            old = loads(self.store.fs.cat_file(path)).get("stages", {})
        except (FileNotFoundError, ValueError):
            return
        new = loads(manifest)
        kept = {stage: entry for stage, entry in old.items() if new["stages"].get(stage) == entry}
        if len(kept) < len(old):
            self._put_manifest((dumps({**new, "stages": kept}, indent=2) + "\n").encode(), None)

    def _put_manifest(self, text: bytes, stat: Stat | None) -> None:
        path = self.store.path(MANIFEST)
        self.store.fs.pipe_file(path, text)
        self._index.note(MANIFEST, Synced(stat, tag(self.store.fs.info(path))))
