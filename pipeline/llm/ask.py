"""One reply to a request: what the journal holds, else the model's, within the budget."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..base.progress import Progress, say
from ..config import ModelConfig
from ..errors import CurateError
from ..records import CandidateStatus
from .budget import Budget, prompt_ceiling
from .engines.choose import teacher_prices
from .engines.endpoints import Endpoints
from .engines.openai_server import OpenAITeacher
from .journal import Journal, clean, serves
from .protocol import Reply, Request, Teacher

Reading = Callable[[Reply], CandidateStatus]
"""What a reply is worth; `ok` and `unchanged` are usable."""

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):
    """Nothing more is asked in this run: the reason is kept by `Asking`."""


@dataclass(slots=True)
class Tally:
    """What this invocation did."""

    asked: int = 0
    answered: int = 0
    from_journal: int = 0


class Asking:
    """Answers requests, and never asks what the journal answers.

    After the first error that concerns the whole run (`stopped`) nothing new is sent, while what
    is in flight, and paid for, is waited for and journaled.
    """

    def __init__(
        self, teacher: Teacher, journal: Journal, budget: Budget, *, retry: Iterable[str] = ()
    ) -> None:
        self.teacher, self.journal, self.budget = teacher, journal, budget
        self.tally = Tally()
        self.stopped: CurateError | None = None
        self._retry = frozenset(retry)
        self._flying: dict[str, asyncio.Future[None]] = {}
        self._asked: set[str] = set()  # by this invocation: a retry asks once

    def stop(self, error: CurateError) -> None:
        """End the run: the first reason is the one that is told."""
        self.stopped = self.stopped or error

    async def close(self) -> None:
        """Let go of the model and of the journal's files."""
        await self.teacher.close()
        self.journal.close()

    def notes(self) -> str:
        """The figures for a progress line."""
        prompt, completion = self.budget.spent
        cost = f"  cost {self.budget.cost:.4f} USD" if self.budget.cost else ""
        return f"asked {self.tally.asked}  tokens {prompt}+{completion}{cost}"

    async def reply(self, request: Request, reading: Reading) -> Reply:
        """The last usable reply, or a new one where there is none or a retry is asked for.

        Raises TeacherFailure for what this request cannot be answered by, Stopped when the run
        must end first.
        """
        # Equal requests in flight: the second waits for the first and finds it in the journal.
        while (flying := self._flying.get(request.key)) is not None:
            await asyncio.wait([flying])
        known = self.known(request, reading)
        if known is not None:
            self.tally.from_journal += 1
            return known
        if self.stopped is not None:
            raise Stopped
        self._flying[request.key] = asyncio.get_running_loop().create_future()
        try:
            return await self._ask(request)
        except CurateError as error:
            self.stop(error)
            raise Stopped from None
        finally:
            self._flying.pop(request.key).set_result(None)

    def known(self, request: Request, reading: Reading) -> Reply | None:
        """The last usable attempt, the last one if none is; None if that is to be retried."""
        attempts = self.journal.attempts(request.key)
        served = [reply for reply in attempts if serves(reply, request.max_tokens)]
        usable = [reply for reply in served if _usable(reading(reply))]
        if served and not usable:  # cut here, but whole at a larger limit: paid for already
            usable = [reply for reply in attempts if _usable(reading(reply))]
        found = usable or served
        if not found:
            return None
        again = reading(found[-1]) in self._retry and request.key not in self._asked
        return None if again else found[-1]

    async def _ask(self, request: Request) -> Reply:
        reservation = await self.budget.reserve(
            prompt_ceiling(request.messages), request.max_tokens
        )
        reply = None
        try:
            if self.stopped is not None:  # it came while this one waited for the budget
                raise Stopped
            self.tally.asked += 1
            if self._retry:
                self._asked.add(request.key)
            reply = await self.teacher.ask(request)
            reply = replace(reply, text=clean(reply.text))  # as it will be found in the journal
            if reply.batch is None:  # those of batch jobs are journaled as they are collected
                self._keep(request, reply)
            self.tally.answered += 1
            return reply
        finally:
            self.budget.settle(reservation, reply)

    def _keep(self, request: Request, reply: Reply) -> None:
        try:
            self.journal.append(request, reply)
        except CurateError as error:  # replies would be paid for and lost: those that wait too
            if isinstance(self.teacher, OpenAITeacher | Endpoints):
                self.teacher.halt(error)
            raise


def _usable(status: CandidateStatus) -> bool:
    return status in ("ok", "unchanged")


def open_asking(teacher: Teacher, config: ModelConfig, *, journal: Path, run: str) -> Asking:
    """The journal opened and said aloud, the budget counted from what this run has spent."""
    opened = Journal(journal, run=run, model=teacher.name)
    if len(opened):
        say(f"taking up: the journal holds {len(opened)} replies")
        if isinstance(teacher, OpenAITeacher | Endpoints):
            teacher.prove()
    return Asking(teacher, opened, budget_of(config, opened, run), retry=config.retry)


def budget_of(config: ModelConfig, journal: Journal, run: str) -> Budget:
    """The budget, with what the journal says that this run has spent."""
    return Budget(
        max_total_tokens=config.max_total_tokens,
        max_cost=config.max_cost,
        prices=teacher_prices(config, config.model or ""),
        spent=journal.spent(run),
        spent_at_half=journal.spent_at_half(run),
        half=config.batch_api,
    )


@contextmanager
def let_go_on_error(teacher: Teacher) -> Iterator[None]:
    """Where what comes before the first request fails, give back what the model holds."""
    try:
        yield
    except CurateError:
        asyncio.run(teacher.close())
        raise


# --- a whole job ----------------------------------------------------------------------------------


def answer_all(
    asking: Asking,
    items: list[T],
    one: Callable[[T], Coroutine[Any, Any, R]],
    *,
    at_once: int,
    stage: str,
    unit: str,
) -> list[R]:
    """`one` of each item, `at_once` of them at a time, in the items' order.

    `one` asks by `asking`, which is closed in the end. Raises what stopped the run.
    """
    try:
        return asyncio.run(until_terminated(_answered(asking, items, one, at_once, stage, unit)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except Stopped:
        assert asking.stopped is not None
        raise asking.stopped from None


async def _answered(
    asking: Asking,
    items: list[T],
    one: Callable[[T], Coroutine[Any, Any, R]],
    at_once: int,
    stage: str,
    unit: str,
) -> list[R]:
    room = asyncio.Semaphore(at_once)

    async def each(item: T) -> R:
        async with room:
            result = await one(item)
        progress.advance(1, asking.notes())
        return result

    try:
        with Progress(stage, total=len(items), unit=unit) as progress:
            return await together(each(item) for item in items)
    finally:
        await asking.close()


async def until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Let SIGTERM end the work as SIGINT does: between two steps, not within one."""
    task = asyncio.current_task()
    assert task is not None
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all; when one raises, let the others end by themselves first, then raise it."""
    results = await asyncio.gather(*work, return_exceptions=True)
    done = [result for result in results if not isinstance(result, BaseException)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return done
