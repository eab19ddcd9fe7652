"""One progress bar on a terminal, a line an interval elsewhere; always on stderr.

Of several processes at one work, the first alone speaks.
"""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Self

from .foreign_text import without_passwords
from .processes.ranks import is_first

PACE = (3.0, 30.0)  # seconds between two lines: at first, and of a long job
OFTEN = (1.0, 1.0)
# All controls but line feed and tab; the last two ranges turn the direction of what follows.
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_silent = False
_pace = PACE


class Progress:
    """Counts work towards a total that may be unknown.

    Elsewhere than on a terminal: `reflect  120/800 records  14.2/s  48 s to go  asked 360`.
    """

    def __init__(self, stage: str, *, total: int | None, unit: str) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.done = 0
        self.notes = ""
        self._begun = self._shown = time.monotonic()
        self._said = 0
        self._lock = Lock()
        self._bar: Any = None
        if sys.stderr.isatty() and is_first() and not _silent:
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=stage, unit=f" {unit}", file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.done and self._said != self.done:
            self._line()

    def advance(self, number: int = 1, notes: str = "") -> None:
        """More work is done; `notes` are further figures with their units."""
        with self._lock:  # shards report from threads of their own
            self.done += number
            self.notes = notes or self.notes
            self._show(number)

    def _show(self, number: int) -> None:
        if self._bar is not None:
            self._bar.total = self.total  # it may have become known meanwhile
            self._bar.update(number)
            self._bar.set_postfix_str(self.notes, refresh=False)
        elif self._is_due(time.monotonic()):
            self._line()

    def _is_due(self, now: float) -> bool:
        """Whether the last line is old: by a tenth of the time that all took, within bounds."""
        first, longest = _pace
        return now - self._shown >= min(max((now - self._begun) / 10, first), longest)

    def _line(self) -> None:
        self._shown = time.monotonic()
        self._said = self.done
        rate = self.done / max(self._shown - self._begun, 1e-9)
        total = f"/{self.total:,}" if self.total else ""
        parts = [self.stage, f"{self.done:,}{total} {self.unit}", rate_text(rate)]
        if self.total and rate and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / rate)} to go")
        say("  ".join([*parts, self.notes] if self.notes else parts))


def rate_text(per_second: float) -> str:
    """A rate as people write it: three digits, in a unit in which it is no tiny fraction.

    >>> [rate_text(rate) for rate in (1340.2, 14.16, 0.891, 0.0123, 0.0004)]
    ['1,340/s', '14.2/s', '0.891/s', '0.738/min', '1.44/h']
    """
    scales = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))
    by, unit = next((one for one in scales if per_second * one[0] >= 0.1), scales[-1])
    value = per_second * by
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}/{unit}"


def duration(seconds: float) -> str:
    """Rounded, in its largest units.

    >>> duration(7), duration(90), duration(7300)
    ('7 s', '1 min 30 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def say(line: str) -> None:
    """One line to stderr."""
    if is_first() and not _silent:
        with suppress(OSError):  # a full disk behind stderr must not end paid work
            print(inert(without_passwords(line)), file=sys.stderr, flush=True)


@contextmanager
def silence() -> Iterator[None]:
    """No progress and no notes in the body, in all threads of this process."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


@contextmanager
def talkative() -> Iterator[None]:
    """Progress every second in the body."""
    global _pace
    before, _pace = _pace, OFTEN
    try:
        yield
    finally:
        _pace = before


def is_talkative() -> bool:
    """Whether all that may help is to be said."""
    return _pace == OFTEN


def inert(text: str) -> str:
    r"""The text with what a terminal would obey as JSON escapes: controls, and marks of direction.

    >>> inert("\x1b[31mred")
    '\\u001b[31mred'
    """
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def error_text(error: Exception) -> str:
    """What an error says, fit for a terminal."""
    return inert(without_passwords(str(error)))
