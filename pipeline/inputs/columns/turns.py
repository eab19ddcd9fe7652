"""Turns of a chat as data sets have them: roles, texts, exchanges.

OpenAI's `messages` (`role`, `content`) and ShareGPT's `conversations` (`from`, `value`). A file of
several sources has all keys in every turn: those that are null count as absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ...records import Message
from ..ingest import Unusable

TURNS = ("messages", "conversations")
_ROLES = {
    "human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_OF_TURNS = ("role", "from", "content", "value")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; `text` is None where it has none."""

    role: str
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A user's turn and the answer to it, with the system turn and what else came before."""

    system: str | None
    history: tuple[Message, ...]
    instruction: str
    output: str


def exchanges_of(value: Any, column: str) -> list[Exchange]:
    """All exchanges of a list of turns, in turn.

    Unusable where the user's turns and the answers do not alternate, from a user's turn to an
    answer, or one is empty.
    """
    said = [turn_of(turn, column) for turn in turns_in(value, column)]
    system = said.pop(0).text if said and said[0].role == "system" else None
    messages = _alternating(said, column)
    return [
        Exchange(
            system=system or None,
            history=messages[:place],
            instruction=messages[place]["content"],
            output=messages[place + 1]["content"],
        )
        for place in range(0, len(messages), 2)
    ]


def history_of(value: Any, column: str) -> tuple[Message, ...]:
    """Earlier turns: messages as a run's candidates have them, or LLaMA-Factory's pairs."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        turns = turns_in(value, column)
        return _alternating([turn_of(turn, column) for turn in turns], column)
    return messages_of_pairs(value, column)


def _alternating(said: Sequence[Turn], column: str) -> tuple[Message, ...]:
    _refuse_disorder([turn.role for turn in said], column)
    for turn in said:
        if turn.text is None:
            raise Unusable(f"a turn of {column!r} has no text")
        if not turn.text.strip():
            raise Unusable(f"a turn of {column!r} is empty")
    return tuple({"role": turn.role, "content": turn.text or ""} for turn in said)


def _refuse_disorder(roles: Sequence[str], column: str) -> None:
    if not roles:
        raise Unusable(f"{column!r} has no turns")
    if "system" in roles:
        raise Unusable(f"a system turn of {column!r} is not the first turn")
    if roles[0] == "assistant":
        raise Unusable(f"{column!r} begins with an answer")
    for role, following in pairwise(roles):
        if role == following:
            kind = "user turns" if role == "user" else "answers"
            raise Unusable(f"two {kind} of {column!r} stand in a row")
    if roles[-1] == "user":
        raise Unusable(f"the last turn of {column!r} has no answer")


def says_more(value: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a turn has further fields."""
    more = (v for turn in value for name, v in turn.items() if name not in _OF_TURNS)
    return any(v is not None for v in more)


def messages_of_pairs(value: Any, column: str) -> tuple[Message, ...]:
    """Earlier turns as LLaMA-Factory has them: pairs of a user's turn and the answer."""
    if value in (None, "", "[]", []):
        return ()
    if not isinstance(value, list) or not all(_is_pair(pair) for pair in value):
        raise Unusable(f"{column!r} is not a list of pairs of texts")
    turns = [text for pair in value for text in pair]
    roles = ("user", "assistant")
    return tuple({"role": roles[n % 2], "content": text} for n, text in enumerate(turns))


def _is_pair(value: Any) -> bool:
    texts = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
    return texts and len(value) == 2 and all(text.strip() for text in value)


def turns_in(value: Any, column: str) -> Sequence[Mapping[str, Any]]:
    """The turns of a column. Unusable where it holds something else."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise Unusable(f"{column!r} is not a list of turns")
    return value


def turn_of(turn: Mapping[str, Any], column: str) -> Turn:
    """One turn. Unusable for an unknown role, a tool call, and a content that is no text."""
    role = _first(turn, "role", "from")
    if not isinstance(role, str) or role not in _ROLES:
        raise Unusable(f"unknown role {role!r}")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise Unusable(f"a turn of {column!r} calls a tool")
    return Turn(_ROLES[role], _text(_first(turn, "content", "value"), column))


def context_of(values: Mapping[str, Any], output: str | None = None) -> dict[str, Any]:
    """The system turn and the history of `messages` beside the columns, as a selected set has it.

    No history where the turns are no conversation, or end in another answer than `output`.
    """
    turns = values.get("messages")
    if not isinstance(turns, list) or not turns:
        return {}
    try:
        last = exchanges_of(turns, "messages")[-1]
        theirs = output is not None and last.output != output
        return {"system": last.system, "history": () if theirs else last.history}
    except Unusable:
        return {"system": _system_of(turns)}


def _system_of(turns: Sequence[Any]) -> str | None:
    for turn in turns:
        if isinstance(turn, dict) and _ROLES.get(str(_first(turn, "role", "from"))) == "system":
            return _text(_first(turn, "content", "value"), "messages") or None
    return None


def _text(content: Any, column: str) -> str | None:
    """A content as text: parts that are texts are joined."""
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [_part(part) for part in parts]
    if not texts or None in texts:
        raise Unusable(f"a turn of {column!r} has no text, or more than text")
    return "".join(text for text in texts if text is not None)


def _part(part: Any) -> str | None:
    if isinstance(part, dict) and part.get("type", "text") == "text":
        part = part.get("text")
    return part if isinstance(part, str) else None


def _first(turn: Mapping[str, Any], *names: str) -> Any:
    """The first of the values that is not null."""
    return next((turn[name] for name in names if turn.get(name) is not None), None)
