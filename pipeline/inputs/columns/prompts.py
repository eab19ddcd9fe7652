"""A row's prompt, from the columns that preference data and answers usually have."""

from collections.abc import Mapping
from typing import Any

from ...config import InputConfig
from ...pair_records import Prompt
from ...records import Message
from ..ingest import Unusable
from .texts import content_id, row_id
from .turns import turn_of, turns_in

_COLUMNS = ("instruction", "prompt", "question", "text", "messages")


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


def _of_turns(value: Any, name: str) -> Prompt:
    turns = [turn_of(turn, name) for turn in turns_in(value, name)]
    if any(turn.text is None for turn in turns):
        raise Unusable(f"a turn of {name!r} has no text")
    said: list[Message] = [{"role": turn.role, "content": turn.text or ""} for turn in turns]
    others = [turn for turn in said if turn["role"] != "system"]
    if not others or others[-1]["role"] != "user":
        raise Unusable(f"{name!r} does not end with the user's turn")
    systems = [turn["content"] for turn in said if turn["role"] == "system"]
    return Prompt(
        instruction=others[-1]["content"], system="\n".join(systems) or None, history=others[:-1]
    )


def id_of(values: Mapping[str, Any], prompt: Prompt) -> str:
    """The row's id, as text; else a hash of its prompt."""
    given = row_id(values) or values.get("prompt_id")
    if given not in (None, ""):
        return str(given)
    turns = "".join(f"{turn['role']}: {turn['content']}\n" for turn in prompt.history)
    texts = {"input": prompt.input, "output": "", "system": prompt.system}
    return content_id({"instruction": turns + prompt.instruction, **texts})
