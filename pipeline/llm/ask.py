"""One reply to a request: what the journal holds, else the model's, within the budget."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..config import ModelConfig
from ..errors import CurateError, RequestFailed
from ..records import CandidateStatus, Message
from .budget import Budget, prompt_ceiling, prompt_floor
from .journal import Journal
from .protocol import Engine, Reply, Request, request_key

SHORT_PROMPT = 768  # tokens; no server has a smaller context
SHORT_READ = 256  # tokens; less is no count of a prompt that was cut, but a server's constant
USABLE: tuple[CandidateStatus, ...] = ("ok", "unchanged")


class Reading(Protocol):
    """What a caller makes of a reply: a candidate, a verdict, an answer."""

    @property
    def status(self) -> CandidateStatus:
        """What it is worth; `ok` and `unchanged` are usable."""


@dataclass(frozen=True, slots=True)
class ReadText:
    """A reply's text as it is used, and what the reply is worth."""

    text: str
    status: CandidateStatus = "ok"
    reason: str | None = None


R = TypeVar("R", bound=Reading)


@dataclass(frozen=True, slots=True)
class Answered(Generic[R]):
    """A reply, its key in the journal, and what was read from it."""

    key: str
    reply: Reply
    reading: R


class Stopped(Exception):
    """Nothing more is asked in this run: the reason is kept by `Asker`."""


class Interrupted(CurateError):
    """SIGTERM came, while something was in flight."""


@dataclass(slots=True)
class Counts:
    """What this invocation did."""

    asked: int = 0
    answered: int = 0
    from_journal: int = 0


class Asker:
    """Asks a model, and never what the journal answers.

    After the first error that concerns the whole run (`stopped`) nothing new is sent, while what
    is in flight, and paid for, is waited for and journaled.
    """

    def __init__(
        self, engine: Engine, journal: Journal, budget: Budget, config: ModelConfig, *, version: str
    ) -> None:
        """`version` is that of the prompts that will be asked with, a part of each key."""
        self.engine, self.journal, self.budget = engine, journal, budget
        self.counts = Counts()
        self.stopped: CurateError | None = None
        self._config, self._version = config, version
        self._retry = frozenset(config.retry)
        self._in_flight: dict[str, asyncio.Future[None]] = {}
        self._retried: set[str] = set()  # by this invocation: a retry asks once

    async def ask(
        self,
        messages: tuple[Message, ...],
        *,
        id: str,
        slot: str,
        read: Callable[[Reply], R],
        sample: int | None = None,
        tokens: tuple[int, ...] | None = None,
        sampling: ModelConfig | None = None,
    ) -> Answered[R]:
        """The last usable reply, or a new one where there is none or a retry is asked for.

        `sample` numbers several replies to the same messages; `tokens` stand for them in an engine
        of this process; `sampling` is how this reply is sampled, if not as the run's. Raises
        RequestFailed for what this request cannot be answered by, also when the server cut the
        prompt, and Stopped when the run must end first.
        """
        request = self._request(messages, id, slot, sample, tokens, sampling or self._config)
        # Equal requests in flight: the second waits for the first and finds it in the journal.
        while (first := self._in_flight.get(request.key)) is not None:
            await asyncio.wait([first])
        found = self._find(request, read)
        if found is not None:
            self.counts.from_journal += 1
            return found
        if self.stopped is not None:
            raise Stopped
        self._in_flight[request.key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._send(request)
        except CurateError as error:
            self.stop(error)
            raise Stopped from None
        finally:
            self._in_flight.pop(request.key).set_result(None)
        if cut := _cut_prompt(request, reply):
            raise RequestFailed(cut)
        return Answered(request.key, reply, read(reply))

    def find(
        self, messages: tuple[Message, ...], *, id: str, slot: str, read: Callable[[Reply], R]
    ) -> Answered[R] | None:
        """What `ask` would take from the journal; None where it would ask the model.

        Raises RequestFailed as `ask` does.
        """
        return self._find(self._request(messages, id, slot, None, None, self._config), read)

    def stop(self, error: CurateError) -> None:
        """End the run: the first reason is the one that is reported."""
        self.stopped = self.stopped or error

    def interrupt(self) -> bool:
        """Send nothing more; whether something is in flight that can be waited for."""
        waiting = bool(self._in_flight) and self.stopped is None
        self.stop(Interrupted())
        self.engine.halt(Interrupted())
        return waiting

    async def close(self) -> None:
        """Close the engine and the journal's files."""
        await self.engine.close()
        self.journal.close()

    def notes(self) -> str:
        """The figures for a progress line."""
        prompt, completion = self.budget.spent
        used = f"  tokens {prompt:,}+{completion:,}" if prompt or completion else ""
        paid = f"  cost {self.budget.cost_text(self.budget.cost)}" if self.budget.sold else ""
        return f"asked {self.counts.asked:,}{used}{paid}"

    def _request(
        self,
        messages: tuple[Message, ...],
        id: str,
        slot: str,
        sample: int | None,
        tokens: tuple[int, ...] | None,
        config: ModelConfig,
    ) -> Request:
        engine = self.engine
        key = request_key(
            model=engine.name,
            revision=engine.revision,
            messages=messages,
            prompt_version=self._version,
            temperature=config.temperature,
            seed=config.seed,
            recorded_as=engine.recorded_as(id, slot),
            sample=sample,
            top_p=config.top_p,
            presence_penalty=config.presence_penalty,
        )
        return Request(
            id=id,
            slot=slot,
            messages=messages,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            seed=None if config.seed is None else config.seed + (sample or 0),
            key=key,
            tokens=tokens,
            top_p=config.top_p,
            presence_penalty=config.presence_penalty,
        )

    def _find(self, request: Request, read: Callable[[Reply], R]) -> Answered[R] | None:
        """The last usable attempt, the last one if none is; None if that is to be retried.

        Raises RequestFailed where the server cut the prompt of all attempts.
        """
        replies = self.journal.attempts(request.key)
        whole = [reply for reply in replies if not _cut_prompt(request, reply)]
        if replies and not whole and not self._retries(request, "failed"):
            raise RequestFailed(_cut_prompt(request, replies[-1]))
        attempts = [Answered(request.key, reply, read(reply)) for reply in whole]
        served = [one for one in attempts if one.reply.serves(request.max_tokens)]
        usable = [one for one in served if one.reading.status in USABLE]
        if served and not usable:  # cut here, but whole at a larger limit: paid for already
            usable = [one for one in attempts if one.reading.status in USABLE]
        found = usable or served
        if not found:
            return None
        return None if self._retries(request, found[-1].reading.status) else found[-1]

    def _retries(self, request: Request, status: CandidateStatus) -> bool:
        return status in self._retry and request.key not in self._retried

    async def _send(self, request: Request) -> Reply:
        reservation = await self.budget.reserve(
            prompt_ceiling(request.messages), request.max_tokens
        )
        reply = None
        try:
            if self.stopped is not None:  # it came while this one waited for the budget
                raise Stopped
            self.counts.asked += 1
            if self._retry:
                self._retried.add(request.key)
            reply = await self.engine.ask(request)
            if reply.batch is None:  # those of batch jobs are journaled as they are collected
                reply = self._store(request, reply)
            self.counts.answered += 1
            return reply
        finally:
            self.budget.settle(reservation, reply)

    def _store(self, request: Request, reply: Reply) -> Reply:
        try:
            return self.journal.append(request, reply)
        except CurateError as error:  # replies would be paid for and lost: those that wait too
            self.engine.halt(error)
            raise


def _cut_prompt(request: Request, reply: Reply) -> str | None:
    """Why a reply answers another prompt than was sent; servers drop what does not fit, unasked."""
    read = reply.prompt_tokens
    characters = sum(len(message["content"]) for message in request.messages)
    if (
        read is None or read < SHORT_READ or characters < 5 * read
    ):  # as usual: its words need not be counted
        return None
    floor = prompt_floor(request.messages)
    if floor < SHORT_PROMPT or read >= floor:
        return None
    return (
        f"the server read {read} tokens of a prompt of more than {floor}: it cut the prompt, "
        "so give it a larger context"
    )
