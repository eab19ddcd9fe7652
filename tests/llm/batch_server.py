"""A real HTTP server that speaks OpenAI's batch API: files, batches, a list in pages, contents.

with BatchServer() as server:
    server.hold = True   # batches stay in progress
    ... run against server.url; server.batches, server.uploads; server.hold = False
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .faulty_server import Received, reflect

PAGE = 2  # batches a page of the list
Row = dict[str, Any]
Answerer = Callable[[Row], Row | None]
"""A line of the output or error file for a line of the input; None: no line at all."""


def received(line: Row) -> Received:
    return Received(0, line["url"], {}, line["body"])


def fine(line: Row) -> Row:
    """A proper reply, 11 prompt and 7 completion tokens."""
    message = {"role": "assistant", "content": reflect(received(line))}
    body = {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
    }
    return answered(line, 200, body)


def answered(line: Row, status: int, body: Row) -> Row:
    response = {"status_code": status, "request_id": "req-1", "body": body}
    return {"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}


def refused(line: Row, status: int, message: str) -> Row:
    return answered(line, status, {"error": {"message": message}})


def expired(line: Row) -> Row:
    why = "This request could not be executed before the completion window expired."
    error = {"code": "batch_expired", "message": why}
    return {"id": "x", "custom_id": line["custom_id"], "response": None, "error": error}


class BatchServer:
    def __init__(self, answer: Answerer = fine) -> None:
        self.answer = answer
        self.status = "completed"  # in which batches end
        self.hold = False
        self.silent = False  # makes batches, and does not say so
        self.failing = 0  # so many times a batch is made and an error is answered
        self.room: int | None = None  # requests that the queue takes
        self.late = 0  # so many times a content is not there yet
        self.absent = 0  # so many times a batch is not known
        self.name = "batch-{}"
        self.counts: Row | None = None  # in place of the true ones
        self.tail = b"{torn\n"  # of each content
        self.known = True  # whether there is a batch API
        self.key: str | None = None
        self.uploads: dict[str, bytes] = {}
        self.batches: dict[str, Row] = {}
        self.asked: Counter[str] = Counter()  # custom ids of all batches made
        self.live = 0  # chat completions asked directly
        self.contents: dict[str, bytes] = {}
        self.closed = Event()
        self._order = random.Random(1)
        self._http = _HTTP(self)
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def lines(self, batch: Row) -> list[Row]:
        return [json.loads(line) for line in self.uploads[batch["input_file_id"]].splitlines()]

    def __enter__(self) -> "BatchServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None
    ) -> None:
        self.closed.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    # --- what the paths do ---

    def upload(self, kind: str, form: bytes) -> Row:
        mark = kind.partition("boundary=")[2].encode()
        parts = form.split(b"--" + mark)
        assert parts[0] == b"" and parts[-1] == b"--\r\n"
        fields = {}
        for part in parts[1:-1]:
            head, _, value = part.strip(b"\r\n").partition(b"\r\n\r\n")
            fields[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value
        assert fields["purpose"] == b"batch"
        id = f"file-{len(self.uploads)}"
        self.uploads[id] = fields["file"]
        return {"id": id, "object": "file", "purpose": "batch", "bytes": len(fields["file"])}

    def create(self, body: Row) -> Row:
        assert body["endpoint"] == "/v1/chat/completions" and body["completion_window"] == "24h"
        batch = {
            **body, "id": self.name.format(len(self.batches)), "object": "batch",
            "status": "validating", "errors": None, "output_file_id": None, "error_file_id": "",
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }  # fmt: skip
        lines = self.lines(batch)
        ids = [line["custom_id"] for line in lines]
        assert len(set(ids)) == len(ids)
        assert all(line["method"] == "POST" and line["url"] == body["endpoint"] for line in lines)
        self.asked.update(ids)
        self.batches[batch["id"]] = batch
        return batch

    def get(self, id: str) -> Row | None:
        batch = self.batches.get(id)
        if batch is not None and batch["status"] in ("validating", "in_progress"):
            if batch["status"] == "validating" and self._is_full(batch):
                return batch
            hold = self.hold or (self.room and batch["status"] == "validating")
            batch["status"] = "in_progress" if hold else self.status
            if not hold:
                self._answer(batch)
        return batch

    def _is_full(self, batch: Row) -> bool:
        """Refuse a batch for which the queue has no room."""
        working = [b for b in self.batches.values() if b["status"] == "in_progress"]
        queued = sum(len(self.lines(one)) for one in [*working, batch])
        full = self.room is not None and queued > self.room
        if full:
            said = f"Enqueued token limit reached: {queued} of {self.room}"
            error = {"code": "token_limit_exceeded", "message": said}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
            self.asked.subtract(line["custom_id"] for line in self.lines(batch))
        return full

    def _answer(self, batch: Row) -> None:
        lines = self.lines(batch)
        self._order.shuffle(lines)
        if batch["status"] == "failed":
            error = {"code": "invalid", "message": "the file is not to our taste", "line": 1}
            batch["errors"] = {"object": "list", "data": [error]}
            return
        answers = [answer for answer in map(self.answer, lines) if answer is not None]
        good = [a for a in answers if a["response"] and a["response"]["status_code"] == 200]
        bad = [a for a in answers if a not in good]
        batch["request_counts"] = {
            "total": len(lines), "completed": len(good), "failed": len(bad)
        } if self.counts is None else self.counts  # fmt: skip
        for name, some in (("output", good), ("error", bad)):
            if some:
                batch[f"{name}_file_id"] = f"{name}-{batch['id']}"
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in some)
                self.contents[f"{name}-{batch['id']}"] = text.encode() + self.tail

    def page(self, query: dict[str, list[str]]) -> Row:
        newest = list(self.batches.values())[::-1]
        after = query.get("after", [None])[0]
        ids = [batch["id"] for batch in newest]
        start = ids.index(after) + 1 if after in ids else 0
        some = newest[start : start + PAGE]
        return {"object": "list", "data": some, "has_more": start + PAGE < len(newest)}


class _HTTP(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: BatchServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def api(self) -> BatchServer:
        assert isinstance(self.server, _HTTP)
        return self.server.owner

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = [unquote(p) for p in url.path.removeprefix("/v1").strip("/").split("/")]
        if not self.api.known or self._unknown_key():
            return
        if path == ["batches"]:
            return self._say(200, self.api.page(parse_qs(url.query)))
        if path[0] == "batches" and self.api.absent:
            self.api.absent -= 1
        elif path[0] == "batches" and (batch := self.api.get(path[1])):
            return self._say(200, batch)
        if path[0] == "files" and self.api.late:
            self.api.late -= 1
        elif path[0] == "files" and path[2] == "content" and path[1] in self.api.contents:
            return self._send(200, self.api.contents[path[1]])
        self._say(404, {"error": {"message": "not found"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self._unknown_key():
            return None
        if self.path == "/v1/files" and self.api.known:
            return self._say(200, self.api.upload(self.headers["content-type"], body))
        if self.path == "/v1/batches" and self.api.known:
            return self._created(self.api.create(json.loads(body)))
        if self.path == "/v1/chat/completions":
            self.api.live += 1
            line = {"custom_id": "", "url": self.path, "body": json.loads(body)}
            return self._say(200, fine(line)["response"]["body"])
        self._say(404, {"error": {"message": "not found"}})

    def _created(self, batch: Row) -> None:
        if self.api.silent:
            self.api.closed.wait(20)
            self.close_connection = True
        elif self.api.failing:
            self.api.failing -= 1
            self._say(500, {"error": {"message": "it broke"}})
        else:
            self._say(200, batch)

    def _unknown_key(self) -> bool:
        wrong = self.api.key and self.headers["authorization"] != f"Bearer {self.api.key}"
        if wrong:
            said = f"Incorrect API key: {self.headers['authorization']}"
            self._say(401, {"error": {"message": said}})
        return bool(wrong)

    def _say(self, status: int, value: Row) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
