"""DATA at a URL -> a copy in the cache, one for each state of it."""

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...base.files import writable
from ...errors import CurateError
from .urls import Store, cache_home, stays_inside, store_errors, store_of, tag, valid_url

_SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` leaves


def fetch(url: str, is_data: Callable[[str], bool]) -> Path:
    """The local copy of a file, or of a folder's data files; what is here already is not fetched.

    `is_data` tells by its name whether a file is one. Raises CurateError for what cannot be had.
    """
    url = valid_url(url)
    store = store_of(url)
    with store_errors(url):
        objects, is_file = _objects(store, is_data)
    if not objects:
        raise CurateError(f"{url} holds no data: no file in it has a known format")
    tags = sorted((name, tag(info)) for name, info in objects.items())
    told = all(not state.endswith(":") for _, state in tags)  # else it may change unseen
    state = repr(tags) if told else uuid.uuid4().hex
    name = url.rpartition("/")[2]
    name = name if stays_inside(name) else "data"
    folder = cache_home() / "data" / _digest(url) / _digest(state) / name
    if not folder.exists():
        _fetch(store, objects, folder)
    return folder / next(iter(objects)) if is_file else folder


def _objects(
    store: Store, is_data: Callable[[str], bool]
) -> tuple[dict[str, Mapping[str, Any]], bool]:
    """The files that are wanted, by their names within the folder; whether the URL is a file."""
    store.fs.invalidate_cache()
    info = store.fs.info(store.root)
    if info["type"] == "file":
        return {store.root.rpartition("/")[2]: info}, True
    listed = _named(store, store.fs.ls(store.root, detail=True))
    if not set(_SAVED) & listed.keys():
        return {n: e for n, e in listed.items() if e["type"] == "file" and is_data(n)}, False
    return _named(store, store.fs.find(store.root, maxdepth=2, detail=True).values()), False


def _named(store: Store, entries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """What is listed, by its name within the folder, but for hidden files.

    Raises CurateError for a name that leads out of the folder.
    """
    named = {str(entry["name"]).removeprefix(f"{store.root}/"): entry for entry in entries}
    for name in named:
        if not stays_inside(name):
            raise CurateError(f"{store.url} lists {name[:200]!r}, which is not in that folder")
    return {n: e for n, e in named.items() if not any(p.startswith(".") for p in n.split("/"))}


def _fetch(store: Store, objects: Mapping[str, Any], folder: Path) -> None:
    """Fill a folder beside the wanted one and put it in place, unless another was first."""
    fresh = folder.with_name(f".{uuid.uuid4().hex}")
    with writable(folder):
        fresh.mkdir(parents=True)
        try:
            with store_errors(store.url):
                for name, info in objects.items():
                    place = fresh / name
                    place.parent.mkdir(exist_ok=True)
                    store.fs.get_file(str(info["name"]), str(place))
            if not folder.exists():
                fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
