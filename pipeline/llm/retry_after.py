"""How long a server asks to wait: its Retry-After header."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, in seconds or as an HTTP date.

    >>> parse_retry_after("1.5")
    1.5
    >>> parse_retry_after("soon") is None
    True
    """
    try:
        seconds = float(value or "")
    except ValueError:
        return _seconds_until(value or "", now or datetime.now(UTC))
    return max(0.0, seconds) if isfinite(seconds) else None


def _seconds_until(date: str, now: datetime) -> float | None:
    when = parse_date(date)
    return None if when is None else max(0.0, (when - now).total_seconds())


def parse_date(value: str | None) -> datetime | None:
    """An HTTP date; None where it is none."""
    try:
        when = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
