"""A model behind any OpenAI-compatible server: POST chat/completions, raw JSON, one pool."""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx2

from ....errors import CurateError, RequestFailed
from ...flow_control import RESUME, Flow, Kind, Trouble
from ...protocol import Engine, Reply, Request, storable
from ...rates import Rates
from .chat_completion import error_text, read_completion
from .connections import (
    PATH,
    Answer,
    Lanes,
    answered,
    cause,
    checked_key,
    checked_url,
    request_headers,
    shown,
)

KEY_LETTERS = 12
LARGEST_ANSWER = 32 << 20  # bytes, unpacked
# How servers say that a prompt does not fit: OpenAI, vLLM, SGLang, llama.cpp, TGI, Mistral, Groq.
_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|maximum model length|max_model_len|too many (input )?tokens"
    r"|(prompt|input|request|inputs) (is|are|was) too (long|large)|longer than the m(odel|aximum)"
    r"|`inputs` (tokens|must have)|reduce the length|maximum (input|prompt) length"
    r"|input token count .* exceeds",
    re.IGNORECASE,
)
_MODERATED = re.compile(r"content.?(filter|management policy)|moderat|flagged", re.IGNORECASE)
_UNPAID = re.compile(r"insufficient.?(quota|balance|credit|funds)", re.IGNORECASE)
_WHOLE_CAP = re.compile(r"unsupported.*'max_completion_tokens' instead", re.IGNORECASE | re.DOTALL)
_MEANING = {
    301: "the server has moved",
    308: "the server has moved",
    401: "wrong or missing API key (CURATE_API_KEY)",
    403: "this API key may not use the model",
    404: "no such model or address",
}


class OpenAIEngine(Engine):
    """Asks `model` at `base_url` (with or without /v1). The key stays in the request's header."""

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        ceiling: int,
        timeout: float = 600.0,
        revision: str | None = None,
        rates: Rates | None = None,
        patience: float = 120.0,
    ) -> None:
        self.name, self.revision = model, revision
        self._timeout = timeout
        self._key = checked_key(api_key)
        self._url = checked_url(base_url)
        self._lanes = Lanes(self._url, request_headers(self._url, self._key), timeout)
        self._cap = "max_tokens"
        self._completion = 0.0  # running mean of completion tokens, for the tpm rate
        self.flow = Flow(ceiling, rates=rates, patience=patience, slow=timeout / 4)

    async def ask(self, request: Request) -> Reply:
        """The server's reply, after as many attempts as `Flow` allows."""
        prompt = sum(len(message["content"]) for message in request.messages) / 4
        expected = prompt + (self._completion or request.max_tokens / 2)
        reply = await self.flow.call(lambda: self._attempt(request), tokens=expected)
        length = len(reply.text) + len(reply.reasoning or "")
        completion = reply.completion_tokens or length / 4
        self._completion += 0.1 * (completion - self._completion)
        self.flow.give_back(expected - (reply.prompt_tokens or prompt) - completion)
        return reply

    def expect_answers(self) -> None:
        """Earlier runs had answers: one record's error is not the server's then."""
        self.flow.proven = True

    def halt(self, error: CurateError) -> None:
        """Send nothing more; what is in flight is waited for."""
        self.flow.halt(error)

    async def close(self) -> None:
        """Close all connections."""
        await self._lanes.close()

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        most: int = LARGEST_ANSWER,
    ) -> Answer | None:
        """The server's good answer at another path, `/files` for one; None where it has none.

        Attempted once: Trouble says that another attempt may help.
        """
        for ending in ("", "/v1"):
            base = self._url.path.removesuffix(PATH) + ending
            url = self._url.copy_with(path=base + path).copy_merge_params(query or {})
            answer = await self._exchange(method, url, body, headers, most=most)
            if answer.status // 100 == 2:
                self._url = self._url.copy_with(path=base + PATH)
                return answer
            if answer.status != 404:
                raise self._problem(answer)
            if base.endswith("/v1") or self.flow.answered:
                break
        return None

    def read(self, request: Request, status: int, data: dict[str, Any]) -> Reply | None:
        """The reply in an answer that came otherwise; None: ask again, `body` is another now.

        Raises as `ask` does, or Trouble.
        """
        answer = Answer(status, None, json.dumps(data), data)
        if _is_completion(answer):
            return self._reply(request, data, self._url)
        if self._renames_cap(answer):
            return None
        raise self._problem(answer)

    async def _attempt(self, request: Request) -> Reply:
        url, cap = self._url, self._cap
        began = time.monotonic()
        answer = await self._exchange("POST", url, self.body(request))
        if answer.data is not None and _is_completion(answer):
            reply = self._reply(request, answer.data, url)
            return replace(reply, seconds=round(time.monotonic() - began, 3))
        if answer.status == 404 and self._may_lack_v1(url, answer):
            return await self._attempt_at_v1(request, url)
        if cap == "max_tokens" and self._renames_cap(answer):
            return await self._attempt(request)
        if _status(answer) in (400, 422) or _is_page(answer):
            await self.flow.first_answer()
        raise self._problem(answer)

    async def _attempt_at_v1(self, request: Request, url: httpx2.URL) -> Reply:
        """The same under /v1, which the user may have left out; if it works, from now on."""
        if self._url == url:
            self._url = url.copy_with(path=url.path.removesuffix(PATH) + "/v1" + PATH)
        try:
            return await self._attempt(request)
        except CurateError as error:
            raise CurateError(f"{error} (without /v1 it answers HTTP 404)") from error

    def _may_lack_v1(self, url: httpx2.URL, answer: Answer) -> bool:
        if url != self._url:  # found out meanwhile
            return True
        untried = not url.path.endswith(f"/v1{PATH}") and not self.flow.answered
        return untried and not (answer.data and "model" in error_text(answer.data).lower())

    def _renames_cap(self, answer: Answer) -> bool:
        """Whether a request failed because OpenAI's reasoning models know only the other name."""
        found = (
            answer.status == 400 and _WHOLE_CAP.search(error_text(answer.data or {})) is not None
        )
        if found:
            self._cap = "max_completion_tokens"
        return found

    def body(self, request: Request) -> bytes:
        """The request as the server wants it."""
        body: dict[str, object] = {
            "model": self.name,
            "messages": request.messages,
            self._cap: request.max_tokens,
            "temperature": request.temperature,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.presence_penalty is not None:
            body["presence_penalty"] = request.presence_penalty
        return json.dumps(body, separators=(",", ":")).encode()

    async def _exchange(
        self,
        method: str,
        url: httpx2.URL,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        most: int = LARGEST_ANSWER,
    ) -> Answer:
        where = shown(url)
        try:
            async with asyncio.timeout(self._timeout):
                response, content = await self._lanes.send(method, url, body, headers, most=most)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise Trouble(f"cannot reach {where}: {cause(error)}", "unreachable") from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise Trouble(f"no answer from {where} in {self._timeout:g} s", "slow") from error
        except httpx2.DecodingError as error:
            raise Trouble(f"{where} sent a body that does not unpack", "fault") from error
        except httpx2.TransportError as error:
            raise Trouble(f"{where} dropped the connection: {cause(error)}", "fault") from error
        return answered(response, content)

    def _reply(self, request: Request, data: Mapping[str, Any], url: httpx2.URL) -> Reply:
        try:
            found = read_completion(data, max_tokens=request.max_tokens)
        except Trouble as trouble:
            raise Trouble(
                f"{shown(url)} sent {self.scrubbed(str(trouble))}", trouble.kind
            ) from None
        return replace(
            found,
            text=self._without_key(storable(found.text)),
            finish_reason=found.finish_reason and self.scrubbed(found.finish_reason),
            endpoint=shown(url),
            reasoning=found.reasoning and self._without_key(storable(found.reasoning)),
        )

    def _problem(self, answer: Answer) -> Trouble | RequestFailed | CurateError:
        """What an answer that is no reply means: for this attempt, this record or the run."""
        status, where = _status(answer), shown(self._url)
        said = self.scrubbed(error_text(answer.data) if answer.data else answer.text or "nothing")
        if status in (400, 413, 422, 500) and (status == 413 or _TOO_LONG.search(said)):
            return RequestFailed(f"longer than the model's context: {said}")
        if status in (400, 403) and _MODERATED.search(said):
            return RequestFailed(f"the server refused the request: {said}")
        if status == 402 or (status == 429 and _UNPAID.search(said)):
            return CurateError(f"{where} wants to be paid first: {said}; then {RESUME}")
        if status in (408, 409, 429) or status >= 500:
            return self._passing(status, answer, said)
        if status == 200:
            return self._no_reply(answer, where)
        if status in (400, 422) and (self.flow.answered or self.flow.proven):
            return RequestFailed(f"the server refused the request (HTTP {status}): {said}")
        meaning = _MEANING.get(status, "the server refuses the request")
        return CurateError(f"{meaning}: {where} answers HTTP {status}: {said}")

    def _passing(self, status: int, answer: Answer, said: str) -> Trouble:
        reason = f"{shown(self._url)} answers HTTP {status}: {said}"
        if status == 429:
            return Trouble(reason, "limited", answer.retry_after)
        kind: Kind = "overloaded" if status in (503, 529) else "fault"
        return Trouble(reason, kind, answer.retry_after)

    def _no_reply(self, answer: Answer, where: str) -> Trouble | CurateError:
        if _is_page(answer) and not (self.flow.answered or self.flow.proven):
            return CurateError(
                f"{where} answers with a web page: it is not an OpenAI-compatible server, "
                "or not its address (which often ends in /v1)"
            )
        return Trouble(f"{where} sent no chat completion: {self.scrubbed(answer.text)!r}", "fault")

    def scrubbed(self, text: str) -> str:
        """The server's words on one line, cut, without the key: some servers echo it."""
        text = " ".join(storable(text).split())
        return (text.replace(self._key, "***") if self._key else text)[:200]

    def _without_key(self, text: str) -> str:
        """A reply's text; a word given to a local server for a key, such as EMPTY, may be in it."""
        secret = self._key is not None and len(self._key) >= KEY_LETTERS
        return text.replace(self._key or "", "***") if secret else text


def _is_completion(answer: Answer) -> bool:
    """Whether it holds a choice and no error, which gateways may send beside one."""
    data = answer.data or {}
    return answer.status == 200 and bool(data.get("choices")) and not data.get("error")


def _is_page(answer: Answer) -> bool:
    """Whether it is a web page that a server shows to anybody."""
    return answer.status == 200 and answer.data is None and answer.text.lstrip()[:1] == "<"


def _status(answer: Answer) -> int:
    """The HTTP status; some gateways send errors as 200 with the code in the body."""
    error = (answer.data or {}).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    inside = answer.status == 200 and isinstance(code, int) and 400 <= code < 600
    return code if inside and isinstance(code, int) else answer.status
