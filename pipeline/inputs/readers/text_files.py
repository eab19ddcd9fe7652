"""Text files, compressed or not, and what is wrong with a file in one sentence."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ...base.foreign_text import whole
from ...errors import CurateError


def _zstandard(file: BinaryIO) -> Any:
    return io.BufferedReader(pa.CompressedInputStream(file, "zstd"))


_UNPACKED: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstandard,
}  # fmt: skip
COMPRESSED = tuple(_UNPACKED)
"""The ends of the names of compressed files."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a file system or a format's library raises into one sentence."""
    try:
        yield
    except (OSError, EOFError, UnicodeError, zlib.error, lzma.LZMAError, pa.ArrowException) as e:
        raise CurateError(f"cannot read {whole(str(path))}: {e}") from None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where its name says that it is compressed."""
    unpacked = _UNPACKED.get(path.suffix.lower())
    with readable(path), path.open("rb") as file:
        if unpacked is None:
            yield file
        else:
            with unpacked(file) as content:
                yield content


@contextmanager
def utf8(file: BinaryIO, path: Path) -> Iterator[io.TextIOWrapper]:
    """The text of an opened file; CurateError names the first byte that is not UTF-8."""
    try:
        yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    except UnicodeDecodeError as error:
        byte = file.tell() - len(error.object) + error.start  # the object is what was read last
        raise CurateError(f"{whole(str(path))} is not UTF-8 (byte {byte})") from None
