"""What both methods stand on: the pool that the finished rounds left, and how a round asks."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from ...base.progress import Progress
from ...config import SynthesizeConfig
from ...errors import RequestFailed
from ...llm.ask import ReadText
from ...llm.job import Job, together
from ...llm.protocol import Reply
from ...method.corpus.decontamination import EvaluationIndex
from ...method.replies.endings import answer_text, incomplete
from ...records import Message
from ...runs.instructions import Instruction

I = TypeVar("I")  # noqa: E741


class Pool:
    """The seeds, and of what was made each instruction once, in its order."""

    def __init__(self) -> None:
        self.seeds: list[Instruction] = []
        self.made: list[Instruction] = []

    def add(self, rows: Iterable[Instruction]) -> None:
        """Take in what a round kept, or the seeds."""
        new: dict[str, Instruction] = {}
        for row in rows:
            if row.reason is None:
                new.setdefault(row.own_id, row)
        for row in new.values():
            (self.made if row.round else self.seeds).append(row)


class Method(Protocol):
    """A way to make instructions of others, a round at a time."""

    def is_done(self, pool: Pool, number: int) -> bool:
        """Whether round `number` is not to be made any more."""

    async def round(self, pool: Pool, number: int) -> list[Instruction]:
        """What a round makes, in the order of its requests, whatever came first."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A reply's text, its key, and how it fell short, if it did."""

    text: str = ""
    key: str | None = None
    fault: str | None = None
    detail: str | None = None

    def leaves_out(self, row: Instruction) -> Instruction:
        """The row, left out because the reply fell short."""
        return replace(row, reason=self.fault, detail=self.detail)


class RoundAsker:
    """Asks the teacher for the parts of a round, as many at a time as the job allows."""

    def __init__(self, config: SynthesizeConfig, job: Job, progress: Progress) -> None:
        self.config = config
        self._job, self._progress = job, progress
        self._room = asyncio.Semaphore(job.at_once)

    async def each(
        self,
        items: Iterable[I],
        work: Callable[[I], Coroutine[Any, Any, list[Instruction]]],
    ) -> list[Instruction]:
        """The rows that `work` makes of the items, in the items' order."""

        async def one(item: I) -> list[Instruction]:
            async with self._room:
                rows = await work(item)
            self._progress.advance(0, self._job.asker.notes())
            return rows

        return [row for rows in await together(map(one, items)) for row in rows]

    async def ask(
        self, messages: tuple[Message, ...], *, id: str, slot: str, sample: int | None = None
    ) -> Reached:
        """The reply; without a `sample`, a greedy one."""
        try:
            answered = await self._job.asker.ask(
                messages,
                id=id,
                slot=slot,
                read=_read,
                sample=sample,
                sampling=self.config.greedy if sample is None else None,
            )
        except RequestFailed as error:
            return Reached(fault="failed", detail=str(error))
        reading = answered.reading
        fault = None if reading.status == "ok" else reading.status
        return Reached(reading.text, answered.key, fault, reading.reason)


def _read(reply: Reply) -> ReadText:
    text = answer_text(reply.text)
    if (ended := incomplete(reply.finish_reason)) is not None:
        return ReadText(text, *ended)
    return ReadText(text) if text.strip() else ReadText(text, "unparsed", "empty reply")


def without_contaminated(row: Instruction, evaluation: EvaluationIndex | None) -> Instruction:
    """The row, left out where it repeats an evaluation set."""
    hit = evaluation.find(row.instruction) if evaluation and row.reason is None else None
    return replace(row, reason="contaminated", detail=hit.reason) if hit else row
