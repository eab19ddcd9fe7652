"""What a chat completion says: text, reasoning, how it ended, usage. Foreign values are checked."""

from collections.abc import Iterator, Mapping
from typing import Any

from ....method.replies.endings import incomplete
from ...flow_control import Trouble
from ...protocol import Reply

MOST_TOKENS = 10**9  # a greater number in a usage is no count


def read_completion(data: Mapping[str, Any], *, max_tokens: int) -> Reply:
    """The first choice of a 200 answer's body. Raises Trouble where it is to be asked for again.

    Counts are None where the server gives none that can be one.
    """
    choice = _choice(data)
    message = choice["message"]
    text, reasoning = _content(message)
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    completion = _count(usage.get("completion_tokens"), of_nothing=not (text or reasoning))
    finish = _finish_reason(choice)
    if completion is not None and completion == max_tokens and incomplete(finish) is None:
        finish = "length"
    return Reply(
        text=text,
        reasoning=reasoning,
        finish_reason=finish,
        max_tokens=max_tokens,
        prompt_tokens=_count(usage.get("prompt_tokens"), of_nothing=False),
        completion_tokens=completion,
    )


def _choice(data: Mapping[str, Any]) -> dict[str, Any]:
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise Trouble("a choice without a message", "fault")
    broken = incomplete(_finish_reason(choice))
    if choice.get("error") or (broken and broken[0] == "failed"):
        reason = error_text(choice) if choice.get("error") else broken and broken[1]
        raise Trouble(f"an answer that broke off: {reason}", "fault")
    return choice


def _finish_reason(choice: Mapping[str, Any]) -> str | None:
    """The server's word; that of the provider behind a gateway where it alone names a cut."""
    given = [choice.get(name) for name in ("finish_reason", "native_finish_reason")]
    words = [word for word in given if isinstance(word, str)]
    return next((word for word in words if incomplete(word)), words[0] if words else None)


def _content(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """The text (a string, parts, or nothing but a refusal), and the reasoning beside it."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    thoughts = [text for part in parts for text in _texts(part, thought=True)]
    beside = (message.get(name) for name in ("reasoning_content", "reasoning"))
    thoughts += [text for text in beside if isinstance(text, str) and text][:1]
    if parts:
        content = "".join(text for part in parts for text in _texts(part, thought=False))
    text = content if isinstance(content, str) else message.get("refusal")
    return text if isinstance(text, str) else "", "\n\n".join(thoughts) if thoughts else None


def _texts(part: Any, *, thought: bool) -> Iterator[str]:
    """The texts of a part of a content that is a thought, or that is none."""
    if not isinstance(part, dict):
        return
    kind = part.get("type")
    if (kind in ("thinking", "reasoning")) is not thought:
        return
    text = part.get(kind if kind == "thinking" else "text", part.get("text"))
    for piece in text if isinstance(text, list) else [text]:
        piece = piece.get("text") if isinstance(piece, dict) else piece
        if isinstance(piece, str):
            yield piece


def _count(value: object, *, of_nothing: bool) -> int | None:
    """A number of tokens; none of a text is what gateways say that do not know."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_TOKENS:
        return None
    return value if value or of_nothing else None


def error_text(data: Mapping[str, Any]) -> str:
    """The server's own words; its error code too, where that says more."""
    error = data.get("error", data)
    if not isinstance(error, dict):
        return str(error)
    said = error.get("message") or error.get("detail") or "nothing"
    code = error.get("code")
    return f"{said} ({code})" if isinstance(code, str) and code not in str(said) else str(said)
