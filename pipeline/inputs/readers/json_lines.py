"""JSON Lines: an object a line. A line that is none costs no other."""

from collections.abc import Iterator
from pathlib import Path

from ...base.foreign_text import whole
from .json_values import JsonDecoder
from .rows import RawRow, Unreadable, row_of
from .text_files import opened


def read_json_lines(path: Path) -> Iterator[RawRow]:
    """The rows of a file."""
    decoder = JsonDecoder()
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            # Only \n ends a line: U+2028 and its like belong to the text.
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield _row(f"{whole(path.name)}:{number}", line, decoder)


def _row(place: str, line: bytes, decoder: JsonDecoder) -> RawRow:
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
        values, end = decoder.decode(text)
    except UnicodeDecodeError as error:
        return Unreadable(place, f"not UTF-8 (byte {error.start} of the line)")
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        return Unreadable(place, f"malformed JSON ({error})")
    if end < len(text):
        return Unreadable(place, f"malformed JSON (more text after character {end})")
    if decoder.repeated is not None:
        return Unreadable(place, f"two values for {decoder.repeated!r}")
    return row_of(place, values)


def count_lines(path: Path) -> int:
    """The lines that are not blank."""
    with opened(path) as file:
        return sum(1 for line in file if line.strip())
