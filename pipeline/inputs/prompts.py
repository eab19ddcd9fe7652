"""A row's prompt, from the columns that preference data and answers usually have."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import InputConfig
from ..records import Message, Prompt
from .ingest import content_id

_COLUMNS = ("instruction", "prompt", "question", "text", "messages")
_ROLES = {"human": "user", "gpt": "assistant"}


class Unusable(Exception):
    """Why a row gives no answers to a prompt."""


def prompt_of(values: Mapping[str, Any], columns: InputConfig) -> Prompt:
    """What the answers follow; Unusable where there is no question."""
    name = columns.instruction_column or next((n for n in _COLUMNS if values.get(n)), None)
    asked = values.get(name) if name else None
    if isinstance(asked, list):
        return _of_turns(asked, str(name))
    if not isinstance(asked, str) or not asked.strip():
        raise Unusable(f"no prompt in {name or ', '.join(_COLUMNS)!r}")
    input, system = values.get(columns.input_column or "input"), values.get("system")
    return Prompt(
        instruction=asked,
        input=input if isinstance(input, str) else "",
        system=system if isinstance(system, str) and system else None,
    )


def _of_turns(turns: Sequence[Any], name: str) -> Prompt:
    messages = [_message(turn, name) for turn in turns]
    systems = [turn["content"] for turn in messages if turn["role"] == "system"]
    others = [turn for turn in messages if turn["role"] != "system"]
    if not others or others[-1]["role"] != "user":
        raise Unusable(f"{name!r} does not end with the user's turn")
    return Prompt(
        instruction=others[-1]["content"],
        system="\n".join(systems) or None,
        history=others[:-1],
    )


def _message(turn: Any, name: str) -> Message:
    role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
    text = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
    if not isinstance(text, str) or not isinstance(role, str):
        raise Unusable(f"a turn of {name!r} has no role or no text")
    return {"role": _ROLES.get(role, role), "content": text}


def id_of(values: Mapping[str, Any], prompt: Prompt) -> str:
    """The row's id, as text; else a hash of its prompt."""
    given = values.get("id", values.get("prompt_id"))
    if given not in (None, ""):
        return str(given)
    turns = "".join(f"{turn['role']}: {turn['content']}\n" for turn in prompt.history)
    texts = {"input": prompt.input, "output": "", "system": prompt.system}
    return content_id({"instruction": turns + prompt.instruction, **texts})
