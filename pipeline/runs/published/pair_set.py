"""A folder of preference pairs: a data set that `datasets` loads, what was left out, a manifest."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base.checksums import checksum_holds, with_checksum
from ...base.files import write_json
from ...base.foreign_json import read_object
from ...errors import CurateError
from ..directory import versions
from .arrow_set import batches, read_rows

FORMAT = 1
MANIFEST, CONFIG, LEFT_OUT = "manifest.json", "config.json", "left_out"


def is_pair_set(path: str | Path) -> bool:
    """Whether a folder holds pairs that `curate pairs` made."""
    return (read_object(Path(path) / MANIFEST) or {}).get("curate_pairs") == FORMAT


@dataclass(frozen=True, slots=True)
class PairSet:
    """A finished folder of pairs on disk."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """Identity, versions, settings and counts; CurateError where it is damaged."""
        found = read_object(self.path / MANIFEST)
        if found is None or not checksum_holds(found):
            raise CurateError(f"{self.path / MANIFEST} is damaged: make the pairs again")
        return found

    def rows(self, id: str | None = None) -> Iterator[dict[str, Any]]:
        """The pairs; only those of one id if it is given."""
        return read_rows(self.path, id)

    def left_out(self, id: str | None = None) -> Iterator[dict[str, Any]]:
        """What became no pair, each with its reason."""
        return read_rows(self.path / LEFT_OUT, id)

    def of(self, id: str) -> list[dict[str, Any]]:
        """All that one id became: its pairs, and what was left out."""
        return [*self.rows(id), *self.left_out(id)]

    def ids(self) -> Iterator[str]:
        """The ids of all pairs and of all that was left out; some stand there several times."""
        for folder in (self.path, self.path / LEFT_OUT):
            for batch in batches(folder):
                yield from batch.column("id").to_pylist()


def write_manifest(
    folder: Path, identity: Mapping[str, Any], options: Mapping[str, Any], **notes: Any
) -> None:
    """Write what the pairs are and how they came about into the folder that is being made.

    The options are a file of their own, which `--config` takes.
    """
    write_json(folder / CONFIG, dict(options))
    entry = {"curate_pairs": FORMAT, "identity": dict(identity), "versions": versions(), **notes}
    write_json(folder / MANIFEST, with_checksum(json.loads(json.dumps(entry))))
