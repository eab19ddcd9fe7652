"""OpenAI's batch API: a file of requests is made a batch, and files of answers come back."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from ....base.foreign_json import parse_json
from ....errors import CurateError, RequestFailed
from ...flow_control import Trouble
from .connections import Answer
from .openai_server import OpenAIEngine

T = TypeVar("T")
ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
MOST_REQUESTS = 50_000  # a file, as is the next
MOST_BYTES = 195_000_000  # of 200 MB, the form around it aside
LARGEST_FILE = 1 << 30  # bytes, of answers
FULL = "token_limit_exceeded"
ENDED = ("completed", "failed", "expired", "cancelled")
_PAGE = "100"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the server says of a batch; `files` hold the answers, errors included."""

    id: str
    status: str
    files: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    error: str | None = None
    full: bool = False
    """It failed because more tokens would be queued than the account may have in the queue."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Line:
    """The answer to one request: a status and a body, or an error of the batch's own."""

    key: str
    status: int
    body: dict[str, Any]
    error: str | None


class BatchAPI:
    """The five calls. Each raises CurateError when the server is lost or has no batch API."""

    def __init__(self, engine: OpenAIEngine) -> None:
        self._engine = engine

    async def upload(self, name: str, lines: bytes) -> str:
        """Upload a file of requests, JSON Lines; its id."""
        mark = f"-----{name}"
        head = (
            f'--{mark}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="{name}.jsonl"\r\n'
            "content-type: application/jsonl\r\n\r\n"
        )
        form = b"".join((head.encode(), lines, f"\r\n--{mark}--\r\n".encode()))
        headers = {"content-type": f"multipart/form-data; boundary={mark}"}
        answer = await self._call("POST", "/files", form, headers=headers)
        return self._id(_needed(answer))

    async def create(self, name: str, file: str) -> Batch:
        """Make a batch of an uploaded file; one attempt that failed may have made it, so look."""
        body = {
            "input_file_id": file,
            "endpoint": ENDPOINT,
            "completion_window": WINDOW,
            "metadata": {"curate": name},
        }
        first = True

        async def attempt() -> Batch:
            nonlocal first
            made = None if first else await self._find(name, file)
            first = False
            if made is None:
                sent = json.dumps(body).encode()
                made = self._batch(_needed(await self._engine.send("POST", "/batches", sent)))
            return made

        return await self._repeated(attempt)

    async def find(self, name: str, file: str) -> Batch | None:
        """The batch that was made under this name or of this file, if there is one."""
        return await self._repeated(lambda: self._find(name, file))

    async def get(self, id: str) -> Batch | None:
        """How a batch is doing; None if the server says several times that it does not know it."""
        unknown = False

        async def attempt() -> Batch:
            nonlocal unknown
            answer = await self._engine.send("GET", f"/batches/{quote(id, safe='')}")
            unknown = answer is None
            if answer is None:
                raise Trouble(f"the server does not know the batch {id}", "fault")
            return self._batch(answer)

        try:
            return await self._repeated(attempt)
        except CurateError:
            if not unknown:
                raise
            return None

    async def lines(self, file: str) -> list[Line]:
        """The answers in a file, which may take a moment to be there; other lines are left out."""

        async def attempt() -> Answer:
            answer = await self._engine.send(
                "GET", f"/files/{quote(file, safe='')}/content", most=LARGEST_FILE
            )
            if answer is None:
                raise Trouble(f"the server does not have the file {file} of a batch", "fault")
            return answer

        return list(_lines((await self._repeated(attempt)).text))

    async def _find(self, name: str, file: str) -> Batch | None:
        query = {"limit": _PAGE}
        while True:
            page = _needed(await self._engine.send("GET", "/batches", query=query))
            listed = (page.data or {}).get("data")
            batches = [b for b in listed if isinstance(b, dict)] if isinstance(listed, list) else []
            for batch in batches:
                metadata = batch.get("metadata")
                tagged = isinstance(metadata, dict) and metadata.get("curate") == name
                if tagged or batch.get("input_file_id") == file:
                    return self._of(batch)
            last = batches[-1].get("id") if batches else None
            if not (page.data or {}).get("has_more") or not last or last == query.get("after"):
                return None
            query["after"] = str(last)

    async def _call(
        self, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> Answer | None:
        return await self._repeated(lambda: self._engine.send(method, path, body, headers=headers))

    async def _repeated(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._engine.flow.call(attempt)
        except RequestFailed as failure:  # no record's own: it concerns the batch
            raise CurateError(str(failure)) from failure

    def _id(self, answer: Answer) -> str:
        found = (answer.data or {}).get("id")
        if not isinstance(found, str):
            said = self._engine.scrubbed(answer.text)[:100]
            raise Trouble(f"the server sent no id: {said!r}", "fault")
        return found

    def _batch(self, answer: Answer) -> Batch:
        self._id(answer)
        return self._of(answer.data or {})

    def _of(self, data: dict[str, Any]) -> Batch:
        counts, errors = data.get("request_counts"), data.get("errors")
        counts = counts if isinstance(counts, dict) else {}
        listed = errors.get("data") if isinstance(errors, dict) else errors
        first = listed[0] if isinstance(listed, list) and listed else None
        first = first if isinstance(first, dict) else {"message": first}
        message = first.get("message")
        files = (data.get(name) for name in ("output_file_id", "error_file_id"))
        return Batch(
            id=str(data.get("id")),
            status=str(data.get("status")).lower(),
            files=tuple(file for file in files if isinstance(file, str) and file),
            done=_number(counts.get("completed")) + _number(counts.get("failed")),
            total=_number(counts.get("total")),
            error=self._engine.scrubbed(str(message)) if message else None,
            full=first.get("code") == FULL,
        )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _needed(answer: Answer | None) -> Answer:
    if answer is None:
        raise CurateError("the server has no batch API at this address: leave out --batch-api")
    return answer


def _lines(text: str) -> Iterator[Line]:
    for text_line in text.split("\n"):
        try:
            line = parse_json(text_line)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("custom_id"), str):
            yield _line(line)


def _line(line: dict[str, Any]) -> Line:
    response, error = line.get("response"), line.get("error")
    response = response if isinstance(response, dict) else {}
    body, status = response.get("body"), response.get("status_code")
    if isinstance(error, dict):
        error = error.get("message") or error.get("code")
    return Line(
        key=line["custom_id"],
        status=status if isinstance(status, int) else 0,
        body=body if isinstance(body, dict) else {},
        error=str(error) if error else None if response else "an empty answer",
    )
