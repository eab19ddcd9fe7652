"""The flow of requests: a concurrency that adapts, pauses, rates, retries, and when to give up.

Knows nothing of HTTP: an attempt is a coroutine that returns, raises `Trouble` for what another
attempt may mend, `RequestFailed` for what is this record's own fault, or `CurateError` for what
will fail every record.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Literal, TypeVar

from ..base.progress import say
from ..errors import CurateError, RequestFailed
from .rates import Clock, Rates

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]
Kind = Literal["unreachable", "limited", "overloaded", "slow", "fault"]

START = 64  # requests sent before the first answer: what fills a fast local server
ATTEMPTS = 6
STRIKES: dict[Kind, float] = {
    "unreachable": 0,  # says nothing about the record
    "limited": 0,  # 429: the record only came too early
    "overloaded": 0.5,  # 503: mostly load, now and then a record that crashes its server
    "slow": 1,
    "fault": 1,
}
REFUSALS: tuple[Kind, ...] = ("limited", "overloaded")
FIRST_DELAY, LONGEST_DELAY = 0.5, 15.0
GREETING = 2.0  # seconds within which a server must be reached at the very start
OUTAGE = 8  # so many different records failing, none answered: the server's fault, not theirs
OUTAGE_SECONDS = 60.0  # after which an outage of a server that answers errors is theirs after all
ALIVE = 10.0  # an attempt in flight for longer than this is being worked on
GLANCE = 0.05  # seconds between two looks at whether anything was answered
PULSE = 1.0  # seconds after which whoever waits for a rate looks whether it is worth while
RESUME = "run the same command again to go on"


class ServerLost(CurateError):
    """The server answers nothing any more, which another server, or a later run, may mend."""


class Trouble(Exception):
    """An attempt that failed in a way that another one may mend."""

    def __init__(self, reason: str, kind: Kind, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.retry_after = retry_after


class Limit:
    """How many requests may be in flight: grows by successes, halves on trouble (AIMD).

    Until the first trouble it doubles a round; afterwards it grows by its square root, so that
    one bad moment costs a dozen rounds at most. It stays where answers take longer than `slow`
    seconds: more would only wait in the server's queue, towards the timeout.
    """

    def __init__(self, ceiling: int, *, slow: float) -> None:
        self._ceiling = ceiling
        self._slow = slow
        self._value = float(min(ceiling, START))
        self._latency = 0.0
        self._halved_at: float | None = None

    @property
    def value(self) -> int:
        """The limit now, between 1 and the ceiling."""
        return int(self._value)

    def success(self, latency: float, *, full: bool) -> None:
        """An answer came; only a limit that was in use (`full`) has shown that it is bearable."""
        self._latency += 0.1 * (latency - self._latency)
        if full and self._latency < self._slow:
            step = 1.0 if self._halved_at is None else self._value**-0.5
            self._value = min(self._ceiling, self._value + step)

    def trouble(self, began: float, now: float) -> bool:
        """Halve, once a round: what was sent before the last halving proves nothing new."""
        if self._halved_at is not None and began < self._halved_at:
            return False
        self._value = max(1.0, self._value / 2)
        self._halved_at = now
        return True


class Flow:
    """Sends attempts through one limit, pause and rate; retries; stops when the server is lost."""

    def __init__(
        self,
        ceiling: int,
        *,
        rates: Rates | None = None,
        patience: float = 120.0,
        slow: float = 150.0,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.limit = Limit(ceiling, slow=slow)
        self.ceiling = ceiling
        self.proven = False
        """Set where earlier runs had answers: one record's error is not the server's then."""
        self._rates = rates or Rates()
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._numbers = count()
        self._active = 0
        self._most_active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._in_flight: dict[int, float] = {}  # call number -> start, oldest first
        self._resume_at = 0.0
        self._refusals = 0  # rounds of them since the last answer
        self.answered = False  # whether any attempt has succeeded yet
        self._in_doubt = 0  # attempts that wait in `first_answer`
        self._failures = 0  # since the last answer, as are the next three
        self._used_up = 0
        self._failing: set[int] = set()
        self._failing_since: float | None = None
        self._fatal: CurateError | None = None
        self._named = False  # that the server cannot be reached

    async def call(self, attempt: Callable[[], Awaitable[T]], *, tokens: float = 0) -> T:
        """The attempt's result; repeated while that makes sense. `tokens` counts towards tpm.

        Raises RequestFailed when this record's attempts are used up, CurateError when the
        server is lost.
        """
        number, tries, strikes = next(self._numbers), 0, 0.0
        while True:
            tries += 1
            try:
                return await self._once(number, attempt, tokens)
            except Trouble as trouble:
                if len(self._failing) < OUTAGE or self._outlasts(trouble):
                    strikes += STRIKES[trouble.kind]
                if strikes >= ATTEMPTS:
                    self._used_up += 1
                    raise RequestFailed(f"no answer in {tries} attempts: {trouble}") from trouble
                if trouble.kind == "unreachable" and not self._named:
                    self._named = True
                    say(f"note: {trouble}; trying again")
                if trouble.kind not in REFUSALS:  # those wait together, in `_turn`
                    greeting = trouble.kind == "unreachable" and not self.answered
                    await self._sleep(backoff(1 if greeting else tries))

    async def first_answer(self) -> None:
        """Wait until anything is answered, or nothing in flight can be any more.

        A refusal that overtakes the first answer would else pass for the server's of everything.
        """
        self._in_doubt += 1
        try:
            while not (self.answered or self.proven) and self._in_doubt < len(self._in_flight):
                await self._sleep(GLANCE)
        finally:
            self._in_doubt -= 1

    def halt(self, error: CurateError) -> None:
        """Send nothing more: whoever waits for a turn gets the error."""
        self._fatal = self._fatal or error

    def give_back(self, tokens: float) -> None:
        """Tokens of the tpm rate that a finished request did not use (negative: used more)."""
        self._rates.give_back(tokens)

    async def _once(self, number: int, attempt: Callable[[], Awaitable[T]], tokens: float) -> T:
        async with self._slot():
            await self._turn(tokens)
            began = self._in_flight[number] = self._clock()
            try:
                result = await attempt()
            except Trouble as trouble:
                del self._in_flight[number]
                self._troubled(number, trouble, began)
                raise
            except RequestFailed:  # an answer too: the server lives
                self._lives()
                raise
            except CurateError as error:
                self._fatal = error
                raise
            finally:
                self._in_flight.pop(number, None)
            self.answered = True
            self._lives()
            self.limit.success(self._clock() - began, full=self._active >= self.limit.value)
            return result

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._active >= self.limit.value:
            await self._queue()
        else:
            self._active += 1
        self._most_active = max(self._most_active, self._active)
        try:
            yield
        finally:
            self._active -= 1
            self._admit()

    async def _queue(self) -> None:
        """Wait to be admitted; whoever admits counts us as active already."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._active -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._active < self.limit.value:
            future = self._waiting.popleft()
            if not future.done():
                self._active += 1
                future.set_result(None)

    async def _turn(self, tokens: float) -> None:
        """Wait for the rates and for any pause that the server asked for."""
        ready = self._clock() + self._rates.take(tokens)
        while self._fatal is None and (wait := ready - self._clock()) > 0:
            await self._sleep(min(wait, PULSE))
        while self._fatal is None and (wait := self._resume_at - self._clock()) > 0:
            await self._sleep(wait)
        if self._fatal is not None:
            raise self._fatal

    def _outlasts(self, trouble: Trouble) -> bool:
        """Whether errors of a server that works otherwise have become their records' own.

        Records that always fail are the last to be left, and look like an outage then.
        """
        known = self.answered or self.proven
        if not known or trouble.kind != "fault" or self._failing_since is None:
            return False
        few = self._used_up < 4 * self.ceiling
        return few and self._clock() - self._failing_since >= OUTAGE_SECONDS

    def _lives(self) -> None:
        self._failures = self._refusals = self._used_up = 0
        self._failing.clear()
        self._failing_since = None

    def _troubled(self, number: int, trouble: Trouble, began: float) -> None:
        now = self._clock()
        self._failures += 1
        self._failing.add(number)
        if self._failing_since is None:
            self._failing_since = now
        if trouble.kind in (*REFUSALS, "slow"):
            self._slow_down(trouble, began, now)
        reason = self._hopeless(trouble, now, lasting=now - self._failing_since)
        if reason is not None:
            self._fatal = ServerLost(reason)
            raise self._fatal from trouble

    def _slow_down(self, trouble: Trouble, began: float, now: float) -> None:
        pause = trouble.retry_after or 0.0
        if self.limit.trouble(began, now) and trouble.kind in REFUSALS:
            self._refusals += 1
            pause = max(pause, backoff(self._refusals))
        self._resume_at = max(self._resume_at, now + pause)

    def _hopeless(self, trouble: Trouble, now: float, *, lasting: float) -> str | None:
        """Why the run must stop, if it must."""
        if (trouble.retry_after or 0) > self._patience:
            return f"{trouble}, and asks to wait {trouble.retry_after:.0f} s; {RESUME} after that"
        if not self.answered and trouble.kind == "unreachable" and lasting >= GREETING:
            return f"{trouble}; is the server running?"
        never = not (self.answered or self.proven) and self._failures >= max(20, self._most_active)
        if never and STRIKES[trouble.kind] == 1:
            return f"every request fails: {trouble}; {RESUME}"
        oldest = next(iter(self._in_flight.values()), now)
        if lasting >= self._patience and now - oldest < ALIVE and not self._outlasts(trouble):
            return f"{trouble}; no answer for {lasting:.0f} s; {RESUME}"
        return None


def backoff(tries: int) -> float:
    """Seconds to wait after so many failures: doubling, bounded, jittered downwards by half."""
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(tries - 1, 30))
    return longest * random.uniform(0.5, 1)
