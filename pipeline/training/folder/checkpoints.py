"""A training's folder: claimed by one run, its checkpoints whole or not there, published last."""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...base.files import sync, write_json
from ...base.foreign_json import read_object
from ...errors import CurateError

CHECKPOINTS = "checkpoints"
CLAIM = "finetune.json"  # what this folder is being trained with: written first
MANIFEST = "training.json"  # what came out: written last
OPTIONS = "options.json"  # the command that began it, and the options that it was given
STAGED = ".unfinished"  # what is being written; nothing of this name is ever read
SEAL = "complete.json"
_SCARCE = 1 << 20  # bytes: a file of weights that did not fit is cut short, and takes the rest
KEPT = 2  # checkpoints: should the newest turn out damaged, there is one before it


def check_claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """CurateError unless the folder is free or holds a run of this very identity.

    One that has left neither a checkpoint nor a result holds nothing that could be spoilt.
    """
    held = read_json(folder / CLAIM)
    free = folder.is_dir() and all(path.name.startswith(".lock") for path in folder.iterdir())
    if held is None and folder.exists() and not free:
        raise CurateError(f"{folder} holds something else than a training: give another --out")
    if last_complete(folder / CHECKPOINTS) is None and not (folder / MANIFEST).exists():
        return
    for name, value in identity.items():
        if name == "data" and held is not None and held.get(name) != value:
            begun = (read_object(folder / OPTIONS) or {}).get("options", {})
            of = f", those of {begun['data']}" if "data" in begun else ""
            raise CurateError(
                f"{folder} holds a training on other records{of}: give another --out, or the same "
                "records again"
            )
        if held is not None and held.get(name) != value:
            raise CurateError(
                f"{folder} holds a training with {name} = {held.get(name)!r}, not {value!r}: "
                "give another --out, or the same settings again"
            )


def claim(folder: Path, identity: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
    """Note whose folder this is and what it was begun with; clear away what was half written."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CLAIM, dict(identity))
    write_json(folder / OPTIONS, dict(begun))
    for staged in (folder / STAGED, folder / CHECKPOINTS / STAGED):
        shutil.rmtree(staged, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, None where there is no file. CurateError for a damaged one."""
    found = read_object(path)
    if found is None and path.is_file():
        raise CurateError(f"{path} is damaged: give another --out")
    return found


def seal(folder: Path) -> None:
    """Flush every file, then note their sizes, so that a folder that was cut can be told."""
    sizes = _sizes(folder)
    for name in sizes:
        sync(folder / name)
    write_json(folder / SEAL, sizes)


def is_complete(folder: Path) -> bool:
    """Whether every file that was there when the folder was sealed is there at its full size."""
    sealed = read_object(folder / SEAL)
    if sealed is None:
        return False
    sizes = _sizes(folder)
    return all(sizes.get(name) == size for name, size in sealed.items())


def last_complete(folder: Path) -> Path | None:
    """The newest whole `checkpoint-N`. Going by the name alone would take one that was cut."""
    return next(reversed(complete_checkpoints(folder)), None)


def complete_checkpoints(folder: Path) -> list[Path]:
    """All that are whole, the newest last."""
    return [path for _, path in _numbered(folder) if is_complete(path)]


def checkpoint_step(folder: Path) -> int:
    """The step that a checkpoint was written after."""
    return int(folder.name.rpartition("-")[2])


def publish_checkpoint(staged: Path, folder: Path) -> None:
    """Seal `staged` and move it into `folder`; only then remove the oldest."""
    seal(staged)
    target = folder / staged.name
    if target.exists():  # damaged, or training would have gone on from it
        shutil.rmtree(target)
    staged.replace(target)
    sync(folder)
    for _, path in _numbered(folder)[:-KEPT]:
        shutil.rmtree(path)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn what the libraries that write weights make of a disk's refusal into an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if not re.search(r"I/?O ?error|os error|inline_container|PytorchStreamWriter", str(error)):
            raise
        disk = os.statvfs(place if place.exists() else place.parent)
        full = disk.f_bavail * disk.f_frsize < _SCARCE
        number = errno.ENOSPC if full else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def publish_files(staged: Path, folder: Path) -> None:
    """Move everything in `staged` into `folder`, replacing what has the same name."""
    for name in _sizes(staged):
        sync(staged / name)
    for path in sorted(staged.iterdir()):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staged.rmdir()
    sync(folder)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}
