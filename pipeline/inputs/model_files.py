"""What a model is called, and what pins its files."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

_WHOLE = 64 << 20
_SAMPLES = 256
_BLOCK = 1 << 16


def short_name(model: str) -> str:
    """The last part of a path or hub id, with plain characters only."""
    name = Path(model).resolve().name if Path(model).exists() else model.rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "model"


def revision_of(model: str, revision: str | None) -> str:
    """What pins a model's files: the hub's commit, or a hash of a folder's files.

    Files over 64 MiB are hashed by their size and 256 blocks of 64 KiB spread over them.
    """
    if Path(model).is_dir():
        return folder_hash(Path(model))
    from huggingface_hub import HfApi, try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json", revision=revision)
    if isinstance(cached, str):
        return Path(cached).parent.name  # snapshots/<commit>/config.json
    return str(HfApi().model_info(model, revision=revision).sha)


def folder_hash(folder: Path) -> str:
    """A hash of what makes a model: weights, configuration, tokenizer and chat template."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        if path.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"):
            digest.update(f"{path.name}:{path.stat().st_size}\n".encode())
            for block in _blocks(path):
                digest.update(block)
    return digest.hexdigest()[:16]


def _blocks(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            yield file.read()
            return
        for i in range(_SAMPLES):
            file.seek(i * (size - _BLOCK) // (_SAMPLES - 1))
            yield file.read(_BLOCK)
