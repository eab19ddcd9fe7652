"""What is asked and what comes back, and what every engine does: one coroutine that answers."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from ..errors import CurateError
from ..method.replies.endings import incomplete, split_reasoning
from ..records import Message

_UNSTORABLE = re.compile("[\ud800-\udfff\0]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. `key` is what the journal knows it by.

    `slot` says which of a record's replies this is: a reflection's candidate, a verdict's order,
    an answer's turn. `tokens` are the prompt where it is not to be rendered by the model's chat
    template; only the engine in this process takes them, `messages` then hold their text.
    """

    id: str
    slot: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    seed: int | None
    key: str
    tokens: tuple[int, ...] | None = None
    top_p: float | None = None
    presence_penalty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A raw reply. Token counts are the server's own, None where it gives none."""

    text: str
    finish_reason: str | None
    max_tokens: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    endpoint: str | None = None
    seconds: float | None = field(default=None, compare=False)
    """From the request to the reply, where it was measured."""
    batch: str | None = None
    """The batch job that it came with, at half price."""
    reasoning: str | None = None
    """What the model thought before the text; paid for, and part of no candidate or answer."""

    def serves(self, max_tokens: int) -> bool:
        """Whether it answers the same request at this `max_tokens`.

        One that ended by itself does, at any limit that it would have fitted in. One that was cut
        does too, as a truncated attempt: only a retry asks again.
        """
        ended = incomplete(self.finish_reason)
        if max_tokens >= self.max_tokens or (ended and ended[0] == "truncated"):
            return True
        return self.completion_tokens is not None and self.completion_tokens <= max_tokens


class Engine:
    """A model that answers requests; engines inherit what they need not do.

    `revision` pins the weights, where that can be known.
    """

    name: str
    revision: str | None

    async def ask(self, request: Request) -> Reply:
        """Answer one request; may be called concurrently.

        Raises RequestFailed when this one cannot be answered, and CurateError when none can (wrong
        key, unknown model, unreachable server).
        """
        raise NotImplementedError

    def recorded_as(self, id: str, slot: str) -> tuple[str, ...] | None:
        """What a recorded reply is known by; None where the messages determine the reply."""
        return None

    def expect_answers(self) -> None:
        """Earlier runs had answers: one request's error is not the server's then."""

    def halt(self, error: CurateError) -> None:
        """Send nothing more; what is in flight is waited for."""

    async def start(self) -> None:
        """Go on with what an earlier invocation left at the server."""

    async def finish(self) -> None:
        """Wait for what nobody asked for any more."""

    async def close(self) -> None:
        """Release what the engine keeps: connections, processes, memory."""


def request_key(
    *,
    model: str,
    revision: str | None,
    messages: Sequence[Message],
    prompt_version: str,
    temperature: float,
    seed: int | None,
    recorded_as: tuple[str, ...] | None = None,
    sample: int | None = None,
    top_p: float | None = None,
    presence_penalty: float | None = None,
) -> str:
    """128 bits (hex) of what determines a reply: neither the endpoint nor max_tokens.

    `recorded_as` counts in place of the messages where replies are recorded; `sample` is the number
    of one of several replies to the same request.
    """
    identity: dict[str, object] = {
        "model": model,
        "revision": revision,
        "messages": [dict(message) for message in messages],
        "prompt_version": prompt_version,
        "temperature": float(temperature),
        "seed": seed,
        "slot": recorded_as,
    }
    # A key without them stays what it was.
    more = {"sample": sample, "top_p": top_p, "presence_penalty": presence_penalty}
    identity |= {name: value for name, value in more.items() if value is not None}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=16).hexdigest()


def storable(text: str) -> str:
    r"""The text with what cannot be stored (lone surrogates, NUL) as U+FFFD.

    >>> storable("a\ud800\x00")
    'a\ufffd\ufffd'
    """
    return _UNSTORABLE.sub("\ufffd", text)


def with_reasoning_apart(reply: Reply) -> Reply:
    """The reply as it is stored and read: its reasoning out of its text, both storable."""
    found, text = split_reasoning(storable(reply.text))
    parts = [part for part in (reply.reasoning, found) if part is not None]
    reasoning = storable("\n\n".join(parts)) if parts else None
    return replace(reply, text=text, reasoning=reasoning)
