"""Ceilings of requests and tokens a minute, spread evenly; a second's worth may come at once."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Rates:
    """What all requests together may take; several flows may share one."""

    def __init__(
        self, *, rpm: float | None = None, tpm: float | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._requests = _Bucket(rpm, clock) if rpm else None
        self._tokens = _Bucket(tpm, clock) if tpm else None

    def take(self, tokens: float) -> float:
        """Take one request of so many tokens; the seconds to wait before it is sent."""
        waits = [self._requests.take(1)] if self._requests else []
        waits += [self._tokens.take(tokens)] if self._tokens and tokens else []
        return max(waits, default=0.0)

    def give_back(self, tokens: float) -> None:
        """Tokens that a finished request did not use (negative: it used more)."""
        if self._tokens is not None:
            self._tokens.give(tokens)


class _Bucket:
    def __init__(self, per_minute: float, clock: Clock) -> None:
        self._rate = per_minute / 60
        self._clock = clock
        self._level = self._rate
        self._at = clock()

    def take(self, amount: float) -> float:
        """Take the units, on credit if need be; the seconds to wait before using them."""
        now = self._clock()
        self._level = min(self._rate, self._level + (now - self._at) * self._rate) - amount
        self._at = now
        return max(0.0, -self._level / self._rate)

    def give(self, amount: float) -> None:
        self._level += amount
