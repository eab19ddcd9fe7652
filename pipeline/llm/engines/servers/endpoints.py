"""One model at several servers: each request goes where least is waiting; a lost one is left out.

Each server has a flow of its own, with little patience. What a lost server did not answer is asked
of the others. After a while it is tried again, by one request, and by all once that is answered.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....base.progress import say
from ....errors import CurateError
from ...flow_control import ServerLost
from ...protocol import Engine, Reply, Request
from .connections import checked_url, shown
from .openai_server import OpenAIEngine

Make = Callable[[str, float], OpenAIEngine]
"""An engine at a URL, which gives up after so many seconds without an answer."""

PATIENCE = 120.0  # seconds without an answer from any server
SHORT = 3.0  # seconds without an answer from one
AWAY = 10.0  # seconds that a lost server is left alone while others live
PULSE = 0.2


@dataclass(slots=True, eq=False)
class _Endpoint:
    url: str
    engine: OpenAIEngine
    in_flight: int = 0
    lost: ServerLost | None = None
    back_at: float = 0.0

    @property
    def free(self) -> bool:
        """Whether it may be asked: one that was lost by one request at a time."""
        if self.lost is None:
            return True
        return self.in_flight == 0 and time.monotonic() >= self.back_at

    @property
    def load(self) -> float:
        return self.in_flight / self.engine.flow.limit.value


class EndpointsEngine(Engine):
    """A model served by several servers; `ceiling` holds over all of them."""

    def __init__(
        self, make: Make, urls: Sequence[str], *, ceiling: int, patience: float = PATIENCE
    ) -> None:
        self._make = make
        self._patience = patience
        self._endpoints = [_Endpoint(url, make(url, SHORT)) for url in urls]
        self.name = self._endpoints[0].engine.name
        self.revision = self._endpoints[0].engine.revision
        self._replaced: list[OpenAIEngine] = []
        self._slots = asyncio.Semaphore(ceiling)
        self._answered = self._proven = False
        self._silent_since: float | None = None

    def expect_answers(self) -> None:
        """Earlier runs had answers: one record's error is not the server's then."""
        self._proven = True
        for endpoint in self._endpoints:
            endpoint.engine.expect_answers()

    def halt(self, error: CurateError) -> None:
        """Send nothing more; what is in flight is waited for."""
        for endpoint in self._endpoints:
            endpoint.engine.halt(error)

    async def ask(self, request: Request) -> Reply:
        """The reply of some server. CurateError when all are lost, or one refuses everything."""
        async with self._slots:
            while True:
                endpoint = await self._chosen()
                engine = endpoint.engine
                endpoint.in_flight += 1
                try:
                    reply = await engine.ask(request)
                except ServerLost as error:
                    if endpoint.engine is engine:  # the first of those that it fails
                        self._leave_out(endpoint, error)
                else:
                    self._lives(endpoint)
                    return reply
                finally:
                    endpoint.in_flight -= 1

    async def close(self) -> None:
        """Close all connections."""
        for engine in [*self._replaced, *(endpoint.engine for endpoint in self._endpoints)]:
            await engine.close()

    async def _chosen(self) -> _Endpoint:
        while True:
            free = [endpoint for endpoint in self._endpoints if endpoint.free]
            if free:
                return min(free, key=lambda endpoint: endpoint.load)
            self._check_hope()
            await asyncio.sleep(PULSE)

    def _check_hope(self) -> None:
        lost = [endpoint.lost for endpoint in self._endpoints if endpoint.lost is not None]
        if len(lost) < len(self._endpoints) or self._silent_since is None:
            return
        if not self._answered or time.monotonic() - self._silent_since >= self._patience:
            raise lost[-1]

    def _leave_out(self, endpoint: _Endpoint, error: ServerLost) -> None:
        if endpoint.lost is None:
            say(f"{shown(checked_url(endpoint.url))} is left out for now: {error}")
        self._replaced.append(endpoint.engine)
        endpoint.engine, endpoint.lost = self._make(endpoint.url, SHORT), error
        if self._proven:
            endpoint.engine.expect_answers()
        others = any(other.lost is None for other in self._endpoints)
        now = time.monotonic()
        endpoint.back_at = now + (AWAY if others else PULSE)
        if not others and self._silent_since is None:
            self._silent_since = now

    def _lives(self, endpoint: _Endpoint) -> None:
        self._answered, self._silent_since = True, None
        if endpoint.lost is not None:
            endpoint.lost = None
            say(f"{shown(checked_url(endpoint.url))} is back")
