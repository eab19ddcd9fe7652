"""A JSON array of objects, decoded one by one; JSON Lines under this name are read as such.

No streaming parser (ijson) gives what is needed here: NaN as Python writes it, integers of any size
beside floats, lone surrogates, and the line of each row.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...base.foreign_text import whole
from ...errors import CurateError
from .json_lines import read_json_lines
from .json_values import JsonDecoder
from .rows import RawRow, Unreadable, row_of
from .text_files import opened, utf8

_CHUNK = 1 << 20
_SPACES = re.compile(r"[ \t\r\n]*")
_AFTER_VALUE = tuple(" \t\r\n,]")


def read_json(path: Path) -> Iterator[RawRow]:
    """The rows of a file. CurateError names the line in which an array is malformed."""
    with opened(path) as file:
        first = b""
        while not first and (chunk := file.read(4096)):
            first = chunk.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first == b"{":
        yield from read_json_lines(path)
    elif first:
        yield from _read_array(path)


def _read_array(path: Path) -> Iterator[RawRow]:
    with opened(path) as file, utf8(file, path) as text:
        scan = _Scanner(text, path)
        scan.take("[", "neither an array nor objects")
        more = scan.peek() != "]"
        while more:
            scan.peek()
            yield scan.row(f"{whole(path.name)}:{scan.line}")
            more = scan.peek() != "]"
            if more:
                scan.take(",", "expected ',' or ']'")
        scan.take("]", "expected ']'")
        scan.take("", "more text after the array")


class _Scanner:
    """JSON text, read in chunks: the next character that is no space, and the next value."""

    def __init__(self, text: io.TextIOWrapper, path: Path) -> None:
        self.line = 1
        self._text, self._path = text, path
        self._buffer, self._at = "", 0
        self._decoder = JsonDecoder()

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            spaces = _SPACES.match(self._buffer, self._at)
            self._move(spaces.end() if spaces else self._at)
            if self._at < len(self._buffer) or not self._more():
                return self._buffer[self._at : self._at + 1]

    def take(self, wanted: str, otherwise: str) -> None:
        """Go past a character; CurateError when another is next."""
        if self.peek() != wanted:
            raise self._malformed(otherwise, self._at)
        self._at += len(wanted)

    def row(self, place: str) -> RawRow:
        """Go past the value that is next."""
        value = self._value()
        if self._decoder.repeated is not None:
            return Unreadable(place, f"two values for {self._decoder.repeated!r}")
        return row_of(place, value)

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                malformed = self._malformed(error.msg, error.pos)
                if not self._is_cut(error) or not self._more():
                    raise malformed from None
            except (ValueError, RecursionError) as error:
                raise self._malformed(str(error), self._at) from None
            else:
                # The chunk may end within a number, and `1.` or `1e` begin with one.
                if self._buffer[end : end + 1] in _AFTER_VALUE or not self._more():
                    self._move(end)
                    return value

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether more text may mend it; what is wrong for good need not be read to the end."""
        return len(self._buffer) - error.pos < 16 or error.msg.startswith("Unterminated")

    def _move(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        rest = self._buffer[self._at :]
        chunk = self._text.read(max(_CHUNK, len(rest)))
        self._buffer, self._at = rest + chunk, 0
        return bool(chunk)

    def _malformed(self, what: str, position: int) -> CurateError:
        line = self.line + self._buffer.count("\n", self._at, position)
        return CurateError(f"malformed JSON in {whole(str(self._path))}, line {line}: {what}")
