"""A model asked through batch jobs: requests are gathered, submitted, waited for and collected.

What is submitted is noted on disk, beside the journal: with its uploaded file before a batch is
made of it, and with the batch once there is one. After a crash between the two the server's list
tells whether the batch was made. A note goes when all its replies are in the journal.
"""

import asyncio
import json
import secrets
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ....base.files import writable, write_text
from ....base.progress import say
from ....errors import CurateError, RequestFailed
from ...budget import prompt_ceiling
from ...flow_control import Trouble
from ...journal import Journal
from ...protocol import Engine, Reply, Request
from .batch_api import MOST_BYTES, MOST_REQUESTS, Batch, BatchAPI, Line
from .batch_notes import Job, submitted
from .openai_server import OpenAIEngine

QUIET = 0.25  # seconds without a new request, twice in a row, after which the gathered ones go
LEAST = 50  # requests of a job that is not halved any more
FIRST_WAIT = 1.0  # seconds before the first look at a batch; then doubling


class BatchEngine(Engine):
    """Answers as `engine` would, some hours later, at half the price.

    Replies are journaled here, as they are collected, whether they are still asked for or not.
    """

    def __init__(
        self, engine: OpenAIEngine, journal: Journal, folder: Path, *, run: str, longest: float
    ) -> None:
        """`longest`: seconds between two looks at a batch, at most."""
        self.name, self.revision = engine.name, engine.revision
        self._engine, self._journal, self._folder, self._run = engine, journal, folder, run
        self._api = BatchAPI(engine)
        self._longest = longest
        self._queue: list[Request] = []
        self._asked: dict[str, tuple[Request, asyncio.Future[Reply]]] = {}
        self._early: dict[str, Reply] = {}  # collected before they were asked for
        self._error: Exception | None = None
        self._renamed: set[str] = set()
        self._found = submitted(folder, run)
        self._noted = {key for job in self._found for key in job.requests}
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathering: asyncio.Task[None] | None = None
        self._uploading = asyncio.Lock()
        self._most = MOST_REQUESTS
        self._queued: set[str] = set()  # batches in the server's queue
        self._end = asyncio.Event()  # of the next of them

    async def start(self) -> None:
        """Go on waiting for what was submitted earlier."""
        for job in self._found:
            say(f"taking up: {len(job.requests)} requests submitted as a batch job")
            self._start(self._taken_up(job))

    async def ask(self, request: Request) -> Reply:
        """The reply, once its batch has ended. RequestFailed where that holds none."""
        if self._error is not None:
            raise self._error
        if (early := self._early.pop(request.key, None)) is not None:
            return early
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked[request.key] = request, future
        if request.key not in self._noted:
            self._enqueue(request)
        return await future

    async def finish(self) -> None:
        """Wait for jobs that were taken up though nothing of theirs was asked for any more."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Stop waiting; what was submitted is noted and taken up by the next run."""
        tasks = [*self._tasks, *([self._gathering] if self._gathering else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._engine.close()

    # --- gathering and submitting ---

    def _enqueue(self, request: Request) -> None:
        self._queue.append(request)
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(self._gather())

    async def _gather(self) -> None:
        """Submit what has come once nothing more comes: the rest waits for these replies."""
        seen, quiet = 0, 0
        while quiet < 2:
            await asyncio.sleep(QUIET)
            quiet = quiet + 1 if len(self._queue) == seen else 0
            seen = len(self._queue)
        requests, self._queue = self._queue, []
        for part in _parts(requests, self._engine, self._most):
            self._start(self._submitted(part))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submitted(self, requests: list[Request]) -> None:
        try:
            async with self._uploading:  # one file in memory at a time
                lines = b"".join(_line(request, self._engine) for request in requests)
                name = secrets.token_hex(8)
                file = await self._api.upload(name, lines)
            job = Job(name=name, run=self._run, file=file, requests=_about(requests))
            self._note(job)
            batch = await self._api.create(name, file)
            await self._collected(job, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits to be told
            self._give_up([request.key for request in requests], error)

    async def _taken_up(self, job: Job) -> None:
        try:
            if job.batch is not None:
                batch = await self._api.get(job.batch)
            else:
                batch = await self._api.find(job.name, job.file)
            if batch is not None:
                await self._collected(job, batch)
            elif job.batch is not None:
                gone = Batch(id=job.batch, status="lost by the server")
                self._deliver(job, gone, [])
            else:  # it was never made, so nothing is paid twice
                self._forget(job)
                for key in job.requests:
                    if key in self._asked:
                        self._enqueue(self._asked[key][0])
        except Exception as error:  # noqa: BLE001
            self._give_up(job.requests, error)

    # --- waiting and collecting ---

    async def _collected(self, job: Job, batch: Batch) -> None:
        if job.batch is None:
            job.batch = batch.id
            self._note(job)
            say(f"batch {batch.id}: {len(job.requests)} requests submitted")
        self._queued.add(batch.id)
        try:
            batch = await self._ended(job, batch)
        finally:
            self._queued.remove(batch.id)
            self._end.set()
            self._end = asyncio.Event()
        if batch.full and (self._queued or len(job.requests) > LEAST):
            return await self._submit_again(job, batch)
        lines = [line for file in batch.files for line in await self._api.lines(file)]
        self._deliver(job, batch, lines)

    async def _submit_again(self, job: Job, batch: Batch) -> None:
        """Ask for what the queue did not take: when another batch has ended, or in halves."""
        self._forget(job)
        if self._queued:
            say(f"batch {batch.id}: the server's queue is full; it goes when another one has ended")
            await self._end.wait()
        else:
            self._most = (len(job.requests) + 1) // 2
            say(
                f"batch {batch.id}: too long for the server's queue; now {self._most} requests each"
            )
        for key in job.requests:
            if key in self._asked:
                self._enqueue(self._asked[key][0])

    async def _ended(self, job: Job, batch: Batch) -> Batch:
        wait, said = min(FIRST_WAIT, self._longest), ""
        while not batch.ended:
            state = f"batch {batch.id}: {batch.status}, {batch.done} of {batch.total} done"
            if state != said:
                say(state)
            said = state
            await asyncio.sleep(wait)
            wait = min(2 * wait, self._longest)
            later = await self._api.get(batch.id)
            batch = later or Batch(id=batch.id, status="lost by the server")
            if later is None:
                break
        say(f"batch {batch.id}: {batch.status}")
        return batch

    def _deliver(self, job: Job, batch: Batch, lines: list[Line]) -> None:
        """Journal every reply, hand out those that are waited for, and forget the job."""
        left = dict(job.requests)
        for line in lines:
            about = left.pop(line.key, None)
            if about is not None:
                self._settle(job, line, about)
        self._journal.sync()
        self._forget(job)
        why = f"no answer in batch {batch.id}, which is {batch.status}"
        self._fail(left, RequestFailed(f"{why}: {batch.error}" if batch.error else why))

    def _settle(self, job: Job, line: Line, about: tuple[str, Any, int, int]) -> None:
        id, slot, max_tokens, ceiling = about
        request = Request(
            id=id, slot=slot, messages=(), max_tokens=max_tokens, temperature=0.0,
            seed=None, key=line.key,
        )  # fmt: skip
        try:
            reply = self._reply(request, line)
        except (Trouble, RequestFailed, CurateError) as error:
            self._fail([line.key], RequestFailed(str(error)))
            return
        if reply is None:
            self._again(line.key)
            return
        prompt = ceiling if reply.prompt_tokens is None else reply.prompt_tokens
        reply = replace(reply, prompt_tokens=prompt, batch=job.batch)
        known = job.found and self._journal.attempts(line.key)
        if not (known and any(other.batch == job.batch for other in known)):
            reply = self._journal.append(request, reply)
        waiting = self._asked.pop(line.key, None)
        if waiting is None:
            self._early[line.key] = reply
        elif not waiting[1].done():
            waiting[1].set_result(reply)

    def _reply(self, request: Request, line: Line) -> Reply | None:
        """None where the request is to be sent again in other words."""
        if line.error is not None:
            said = self._engine.scrubbed(line.error)
            raise RequestFailed(f"the batch gives no answer to this request: {said}")
        return self._engine.read(request, line.status, line.body)

    def _again(self, key: str) -> None:
        if key in self._renamed:
            self._fail([key], RequestFailed("the server knows no name for a reply's length"))
        elif key in self._asked:
            self._renamed.add(key)
            self._noted.discard(key)
            self._enqueue(self._asked[key][0])

    def _give_up(self, keys: Iterable[str], error: Exception) -> None:
        """A job is lost for this invocation: so is whoever asks for more."""
        self._error = error
        self._fail(keys, error)

    def _fail(self, keys: Iterable[str], error: Exception) -> None:
        for key in keys:
            _, future = self._asked.pop(key, (None, None))
            if future is not None and not future.done():
                future.set_exception(error)

    # --- notes ---

    def _note(self, job: Job) -> None:
        note = {name: value for name, value in asdict(job).items() if name != "found"}
        write_text(self._place(job), json.dumps(note))

    def _forget(self, job: Job) -> None:
        self._noted -= job.requests.keys()
        with writable(self._place(job)):
            self._place(job).unlink(missing_ok=True)

    def _place(self, job: Job) -> Path:
        return self._folder / f"{job.name}.json"


def _about(requests: list[Request]) -> dict[str, tuple[str, Any, int, int]]:
    return {r.key: (r.id, r.slot, r.max_tokens, prompt_ceiling(r.messages)) for r in requests}


def _line(request: Request, engine: OpenAIEngine) -> bytes:
    head = b'{"custom_id":"%s","method":"POST","url":"/v1/chat/completions","body":'
    return head % request.key.encode() + engine.body(request) + b"}\n"


def _parts(requests: list[Request], engine: OpenAIEngine, most: int) -> Iterator[list[Request]]:
    """As few files as the limits allow, of at most so many requests."""
    part: list[Request] = []
    size = 0
    for request in requests:
        length = len(_line(request, engine))
        if part and (len(part) == most or size + length > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(request)
        size += length
    if part:
        yield part
