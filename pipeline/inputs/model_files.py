"""What a model is called, and what pins its files."""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from ..base.files import write_text
from ..errors import CurateError
from .remote.urls import cache_home

_NOTES = ("training.json", "finetune.json")
_LARGE = 64 << 20
"""Bytes from which the hash of a file is remembered, and stands for the file in a folder's."""


def short_name(model: str) -> str:
    """The last part of a path or hub id, with plain characters only."""
    name = Path(model).resolve().name if os.path.exists(model) else model.rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "model"


def told_apart(names: tuple[str, str], places: tuple[str, str]) -> tuple[str, str]:
    """Two models' names; where they are one, each with the place that it is from.

    >>> told_apart(("model", "model"), ("a/model", "b/model"))
    ('model (a/model)', 'model (b/model)')
    """
    if names[0] != names[1] or places[0] == places[1]:
        return names
    return f"{names[0]} ({places[0]})", f"{names[1]} ({places[1]})"


def revision_of(model: str, revision: str | None) -> str:
    """What pins a model's files: the hub's commit, or a hash of a folder's files."""
    if os.path.isdir(model):
        return folder_hash(Path(model))
    from huggingface_hub import HfApi, try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json", revision=revision)
    if isinstance(cached, str):
        return Path(cached).parent.name  # snapshots/<commit>/config.json
    return str(HfApi().model_info(model, revision=revision).sha)


def folder_hash(folder: Path) -> str:
    """A hash of what makes a model: weights, configuration, tokenizer and chat template.

    What a training notes beside it, such as its seconds, is no part of the model.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name not in _NOTES):
        if path.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"):
            digest.update(os.fsencode(f"{path.name}:{path.stat().st_size}\n"))
            large = path.stat().st_size > _LARGE
            digest.update(_remembered_hash(path).encode() if large else path.read_bytes())
    return digest.hexdigest()[:16]


def _remembered_hash(path: Path) -> str:
    """SHA-256 of a file; remembered in the cache by its place, size, time and inode."""
    stat = path.stat()
    state = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    memo = cache_home() / "hashes" / hashlib.sha256(os.fsencode(state)).hexdigest()[:32]
    with suppress(OSError, ValueError):
        return memo.read_text("ascii")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(CurateError):  # a cache that cannot be written costs time alone
        write_text(memo, found)
    return found
