"""A real OpenAI-compatible HTTP server with faults on request, for the tests of whatever asks it.

    with FaultyServer(script(busy(retry_after=1), drop())) as server:
        ... ask server.url ...; server.requests; server.kill(); server.start()

A behaviour is called with each request and says how to answer it; None answers it properly.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import count
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came; `number` counts from 0."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=monotonic)

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.body["messages"])


@dataclass(frozen=True, slots=True)
class Answer:
    """How to answer: after `delay` seconds, and only `sent` bytes of it where that is given."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    delay: float = 0.0
    sent: int | None = None

    def wire(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Whatever", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


Behaviour = Callable[[Received], Answer | None]
ReplyMaker = Callable[[Received], str]


def completion(
    text: str | None, *, finish_reason: str | None = "stop", usage: bool = True, **message: Any
) -> Answer:
    """A chat completion; further keywords go into the message (`refusal=...`)."""
    body: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish_reason,
            }
        ],
    }
    if usage:
        body["usage"] = {"prompt_tokens": 11, "completion_tokens": len((text or "").split())}
    return Answer(body=json.dumps(body).encode())


def error(status: int, message: str = "it broke", **fields: Any) -> Answer:
    """An OpenAI error object; `fields` such as code="..." go into it."""
    return Answer(status, json.dumps({"error": {"message": message, **fields}}).encode())


def busy(*, retry_after: float | str | None = None, status: int = 429) -> Answer:
    answer = error(status, "too many requests")
    if retry_after is None:
        return answer
    return replace(answer, headers=(*answer.headers, ("retry-after", str(retry_after))))


def drop(sent: int = 120) -> Answer:
    """The connection breaks after so many bytes of a good answer; 0: before any."""
    return replace(completion("lost " * 200), sent=sent)


def slow(seconds: float, text: str = "late") -> Answer:
    return replace(completion(text), delay=seconds)


def cut(text: str = "only half of") -> Answer:
    return completion(text, finish_reason="length")


def html(status: int = 200) -> Answer:
    return Answer(status, b"<!doctype html><html><body>Welcome</body></html>")


def garbage(body: bytes = b'{"choices": [{"mess') -> Answer:
    return Answer(body=body)


def script(*answers: Answer | None) -> Behaviour:
    """These answers in this order, then proper ones."""
    return lambda request: answers[request.number] if request.number < len(answers) else None


def always(answer: Answer) -> Behaviour:
    return lambda request: answer


def reflect(request: Received) -> str:
    """A well-formed reflection, the same for the same messages."""
    mark = blake2b(request.prompt.encode("utf-8", "replace"), digest_size=4).hexdigest()
    if "[New Instruction]" not in request.prompt:
        return f"Criticism.\n[Better Answer] A better answer {mark}. [End]"
    return (
        f"Criticism.\n[New Instruction] A harder instruction {mark}? [End]\n"
        f"[New Answer] A new answer {mark}. [End]"
    )


TLS_HANDSHAKE = b"\x16"


class FaultyServer:
    """The server, in a thread; `url` ends in /v1. `kill` drops all connections, `start` is back."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        reply: ReplyMaker = reflect,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.behaviour = behaviour
        self.reply = reply
        self.requests: list[Received] = []
        self.most_at_once = 0
        self._at_once = 0
        self._numbers = count()
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}/v1"

    def __enter__(self) -> "FaultyServer":
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None
    ) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._wait_for(self._start())

    def kill(self) -> None:
        """Stop listening and reset every connection, answered or not."""
        self._wait_for(self._kill())

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, backlog=2048, limit=2**24
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _kill(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to be broken."""
        opening = await reader.readexactly(1)
        if opening == TLS_HANDSHAKE:  # answered as real servers do
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await asyncio.sleep(0.01)
            return False
        request = await self._receive(opening, reader)
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = (self.behaviour and self.behaviour(request)) or completion(self.reply(request))
            if answer.delay:
                await asyncio.sleep(answer.delay)
        finally:
            self._at_once -= 1
        writer.write(answer.wire()[: answer.sent])
        await writer.drain()
        if answer.sent is not None:
            await asyncio.sleep(0.01)  # what was written goes out before the reset
        return answer.sent is None

    async def _receive(self, opening: bytes, reader: asyncio.StreamReader) -> Received:
        head = (opening + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Received(next(self._numbers), first.split()[1], headers, json.loads(body))
