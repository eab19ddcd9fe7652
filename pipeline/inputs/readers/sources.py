"""What DATA may be -> a source: file, folder, URL, standard input, hub id, rows in memory."""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...base.foreign_text import whole
from ...base.nearest import nearest_path
from ...base.progress import say
from ...base.scratch import scratch_errors
from ...errors import CurateError
from ..inline import InlineData
from ..remote.remote_data import fetch
from ..remote.urls import as_url, local_path, valid_url
from .files import file_source, format_of, list_folder
from .hub_sets import HUB_ID, hub_source
from .rows import RawRow, Source, row_of
from .text_files import readable

_CHUNK = 1 << 20


def open_source(data: str) -> Source:
    """Open a file, a folder, either's URL, `-` (JSONL on standard input), a hub id, or rows.

    Raises CurateError for what is missing, empty or in no known format.
    """
    if isinstance(data, InlineData):
        return _in_memory(data)
    if data == "-":
        return _standard_input()
    if (url := as_url(data)) is not None:
        return _at(url)
    place = os.path.expanduser(data)  # unlike Path's, as typed where there is no such home
    if os.path.isfile(place):  # unlike Path's, False for a name that is too long or empty
        return file_source(data, [Path(place)])
    if os.path.isdir(place):
        return _folder(data, Path(place))
    if HUB_ID.fullmatch(data) and not format_of(data):
        return hub_source(data)
    if os.path.exists(place):
        raise CurateError(f"{whole(data)} is no file: send a pipe to standard input, and give -")
    near = nearest_path(place) if len(place) < 4096 else ""
    raise CurateError(f"no such file or folder: {whole(data[:200])}{whole(near)}")


def _folder(data: str, folder: Path) -> Source:
    with readable(folder):
        listing = list_folder(folder)
    if listing.note:
        say(f"note: {listing.note}")
    return file_source(data, listing.files)


def _at(url: str) -> Source:
    path = local_path(valid_url(url)) or fetch(url, lambda name: bool(format_of(name)))
    return replace(open_source(str(path)), name=url)


def _in_memory(data: InlineData) -> Source:
    def rows() -> Iterator[RawRow]:
        for number, values in enumerate(data.rows, 1):
            yield row_of(f"row {number}", values)

    return Source(str(data), data.fingerprint(), rows, lambda: len(data.rows))


def _standard_input() -> Source:
    with scratch_errors():
        spool = tempfile.NamedTemporaryFile(suffix=".jsonl", prefix="curate-")  # noqa: SIM115
        while chunk := sys.stdin.buffer.read(_CHUNK):
            spool.write(chunk)
        spool.flush()
    return replace(file_source("standard input", [Path(spool.name)]), name="-", _keep=spool)
