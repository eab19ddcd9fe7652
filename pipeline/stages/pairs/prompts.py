"""A row's prompt as messages, from the columns that preference data usually have."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...config import InputConfig
from ...inputs.ingest import content_id
from ...records import Message, user_turn

_COLUMNS = ("instruction", "prompt", "question", "text", "messages")
_ROLES = {"human": "user", "gpt": "assistant"}


class Unusable(Exception):
    """Why a row gives no answers to a prompt."""


def prompt_of(values: Mapping[str, Any], columns: InputConfig) -> list[Message]:
    """The messages that the answers follow; Unusable where there is no question."""
    name = columns.instruction_column or next((n for n in _COLUMNS if values.get(n)), None)
    asked = values.get(name) if name else None
    if isinstance(asked, list):
        return _messages(asked, str(name))
    if not isinstance(asked, str) or not asked.strip():
        raise Unusable(f"no prompt in {name or ', '.join(_COLUMNS)!r}")
    input, system = values.get(columns.input_column or "input"), values.get("system")
    turn = user_turn(asked, input if isinstance(input, str) else "")
    before = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    return [*before, {"role": "user", "content": turn}]


def _messages(turns: Sequence[Any], name: str) -> list[Message]:
    found: list[Message] = []
    for turn in turns:
        role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
        text = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
        if not isinstance(text, str) or not isinstance(role, str):
            raise Unusable(f"a turn of {name!r} has no role or no text")
        found.append({"role": _ROLES.get(role, role), "content": text})
    if not found or found[-1]["role"] != "user":
        raise Unusable(f"{name!r} does not end with the user's turn")
    return found


def id_of(values: Mapping[str, Any], prompt: Sequence[Message]) -> str:
    """The row's id, as text; else a hash of its prompt."""
    given = values.get("id", values.get("prompt_id"))
    if given not in (None, ""):
        return str(given)
    return content_id({"instruction": repr(prompt), "output": ""})
