"""Temporary files, and what their disk refuses in one sentence."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from os import environ
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import CurateError


@contextmanager
def scratch_database() -> Iterator[sqlite3.Connection]:
    """An empty database on disk, for what is to be sorted; CurateError where the disk is full."""
    with (
        scratch_errors(),
        TemporaryDirectory(prefix="curate-") as folder,
        closing(sqlite3.connect(Path(folder) / "rows.sqlite")) as database,
    ):
        yield database


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turn what the disk of temporary files refuses into one sentence."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        place = environ.get("TMPDIR", "/tmp")
        raise CurateError(
            f"cannot write temporary files in {place}: {error}; make room there, or set TMPDIR"
        ) from None
