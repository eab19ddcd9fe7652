"""Checksums (CRC-32) of our own files: Parquet covers its pages alone, JSON and Arrow nothing.

A changed byte may leave a file that can be read and says something else.
"""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .foreign_json import read_object
from .foreign_text import whole

NOTE = b"curate.crc32"
"""The key, in a Parquet file's metadata, of the sum of all other bytes: eight hex digits."""
EMPTY = b"0" * 8
_GAP = 2  # bytes of Thrift between a key and its value of eight bytes
_FIELD = "check"
_CHUNK = 1 << 20


def seal_parquet(data: bytes) -> bytes:
    """A Parquet file with `NOTE` = `EMPTY` in its metadata, the sum filled in."""
    place = _place(data)
    assert place is not None and data[place : place + 8] == EMPTY
    return data[:place] + b"%08x" % zlib.crc32(data) + data[place + 8 :]


def parquet_is_intact(data: bytes) -> bool:
    """Whether a Parquet file is as it was sealed; True for one that never was."""
    place = _place(data)
    if place is None:
        return True
    noted = data[place : place + 8]
    crc = zlib.crc32(data[place + 8 :], zlib.crc32(EMPTY, zlib.crc32(data[:place])))
    return re.fullmatch(rb"[0-9a-f]{8}", noted) is not None and int(noted, 16) == crc


def _place(data: bytes) -> int | None:
    """Where the sum stands: the metadata are the last that holds texts of others."""
    found = data.rfind(NOTE)
    return None if found < 0 else found + len(NOTE) + _GAP


def crc32_of(path: Path) -> str | None:
    """The sum of a file, for what is noted of it elsewhere; None where it is not there."""
    crc = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
    except FileNotFoundError:
        return None
    return f"{crc:08x}"


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the sum of all else."""
    return {**value, _FIELD: _sum(value)}


def checksum_holds(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is as it was written; True for one without a sum."""
    rest = {name: item for name, item in value.items() if name != _FIELD}
    return bool(value.get(_FIELD, _sum(rest)) == _sum(rest))


def read_checked(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, without its sum; None where it is absent or damaged."""
    value = read_object(path)
    if value is None or not checksum_holds(value):
        return None
    return {name: item for name, item in value.items() if name != _FIELD}


def _sum(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"{zlib.crc32(whole(text).encode('utf-8')):08x}"  # as it is written
