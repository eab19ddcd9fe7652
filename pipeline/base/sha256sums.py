"""SHA256SUMS beside a data set's files: Arrow has no checksums. `sha256sum -c` reads it too."""

import hashlib
from pathlib import Path

from ..errors import CurateError

NAME = "SHA256SUMS"


def write_sums(folder: Path) -> str:
    """Write the sums of the folder's Arrow files; the sum of all of them comes back (hex)."""
    text = "".join(f"{_sum(path)}  {path.name}\n" for path in sorted(folder.glob("*.arrow")))
    (folder / NAME).write_text(text, "utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def check_sums(folder: Path) -> None:
    """Raise CurateError for a data file that is not as it was written; no sums, no check."""
    try:
        text = (folder / NAME).read_text("utf-8", "replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        wanted, _, name = line.partition("  ")
        if _sum(folder / Path(name).name) != wanted:
            raise CurateError(
                f"{folder / name} is damaged (its checksum is not that in {NAME}): run the command "
                "that made it again, which for `curate select` runs no model"
            )


def _sum(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
