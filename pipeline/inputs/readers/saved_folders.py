"""Folders that `save_to_disk` of `datasets` wrote, and ours, which carry checksums."""

from pathlib import Path
from typing import Any

from ...base.checksums import checksum_holds, crc32_of
from ...base.foreign_json import read_object
from ...errors import CurateError

STATE, SPLITS = "state.json", "dataset_dict.json"
CHECKSUM = "crc32"
"""Our key in a data file's entry of the state."""


def is_saved(folder: Path) -> bool:
    """Whether a folder is a saved data set, or several as splits."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def saved_files(folder: Path) -> list[Path]:
    """The data files of a saved data set; of several splits those of train, or of the only one.

    Raises CurateError where the folder is damaged, or has several splits and no train.
    """
    if (folder / SPLITS).is_file():
        splits = _saved(folder / SPLITS, "splits")
        if "train" not in splits and len(splits) != 1:
            raise CurateError(f"{folder} has no train split: give one of {folder}/{splits}")
        folder = _inside(folder, "train" if "train" in splits else splits[0])
    if not (folder / STATE).is_file():
        raise CurateError(f"{folder} has no {STATE}: it is no data set that was saved")
    return [_intact(folder, part) for part in _saved(folder / STATE, "_data_files")]


def _intact(folder: Path, part: Any) -> Path:
    """A data file that the state names; CurateError where it is not as it was written."""
    part = part if isinstance(part, dict) else {}
    path = _inside(folder, part.get("filename"))
    wanted = part.get(CHECKSUM)
    if wanted is not None and crc32_of(path) != wanted:
        raise CurateError(
            f"{path} is damaged (its checksum is not that in {STATE}): run the command that made "
            "it again, which for `curate select` runs no model"
        )
    return path


def _inside(folder: Path, name: Any) -> Path:
    """A file that a data set names; CurateError for one that is not in its own folder."""
    own = isinstance(name, str) and Path(name).name == name and "\0" not in name
    if own and name not in ("", ".."):
        return Path(folder, name)
    raise CurateError(f"{folder} names {str(name)[:100]!r}, which is no file of its own")


def _saved(path: Path, key: str) -> list[Any]:
    """The list that `save_to_disk` noted under a key."""
    saved = read_object(path) or {}
    found = saved.get(key) if checksum_holds(saved) else None
    if not isinstance(found, list):
        raise CurateError(f"{path} is damaged: it names no {key!r}; save the data again")
    return found
