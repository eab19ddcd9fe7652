"""What every teacher engine is: a name, a revision, and one coroutine that answers a request."""

from dataclasses import dataclass, field
from typing import Protocol

from ..records import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. `key` is what the journal knows it by.

    `candidate` says which of a record's replies this is: a reflection's candidate, a verdict's
    order, an answer's turn. `tokens` are the prompt where it is not to be rendered by the model's
    chat template; only the engine in this process takes them, `messages` then hold their text.
    """

    id: str
    candidate: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    seed: int | None
    key: str
    tokens: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A raw reply as it came. Token counts are the server's own, None where it gives none."""

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


class Teacher(Protocol):
    """A model that answers requests.

    `ask` raises `TeacherFailure` when this one request cannot be answered, and `CurateError` when
    none can (wrong key, unknown model, unreachable server).
    """

    @property
    def name(self) -> str:
        """The model's name, as recorded with each candidate."""

    @property
    def revision(self) -> str | None:
        """What pins the weights, where that can be known."""

    async def ask(self, request: Request) -> Reply:
        """Answer one request; may be called concurrently."""

    async def close(self) -> None:
        """Give back what the engine holds."""
