"""Turns of a chat as data sets have them: roles, texts, history.

OpenAI's `messages` (`role`, `content`) and ShareGPT's `conversations` (`from`, `value`). A file of
several sources has all keys in every turn: those that are null count as absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .ingest import Unusable

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
class Conversation:
    """A last exchange and what came before it."""

    system: str | None
    history: tuple[Turn, ...]
    instruction: str
    output: str
    more: bool
    """Whether a turn has further fields."""


def conversation_of(value: Any, column: str) -> Conversation:
    """The conversation that a list of turns is. Unusable where it does not end in an answer."""
    turns = [turn_of(turn, column) for turn in turns_in(value, column)]
    system = turns[0].text or None if turns and turns[0].role == "system" else None
    said = turns[1:] if turns and turns[0].role == "system" else turns
    if any(turn.text is None for turn in said):
        raise Unusable(f"a turn of {column!r} has no text")
    roles = [turn.role for turn in turns]
    if roles.count("user") > 1:
        raise Unusable(f"{roles.count('user')} user turns; only one is supported")
    if [turn.role for turn in said] != ["user", "assistant"]:
        raise Unusable(f"turns are {', '.join(roles) or 'none'}; wanted user, assistant")
    *history, last, answer = said
    return Conversation(
        system=system,
        history=tuple(history),
        instruction=last.text or "",
        output=answer.text or "",
        more=any(_has_more(turn) for turn in value),
    )


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


def system_of(values: Mapping[str, Any]) -> str | None:
    """The system turn of `messages` beside the columns, as a selected set has it."""
    turns = values.get("messages")
    for turn in turns if isinstance(turns, list) else ():
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


def _has_more(turn: Mapping[str, Any]) -> bool:
    return any(value is not None for name, value in turn.items() if name not in _OF_TURNS)
