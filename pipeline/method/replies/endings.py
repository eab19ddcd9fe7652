"""What any reply is looked at for first: how it ended, and the reasoning in front of its text."""

import re

from ...records import CandidateStatus

CUT = "cut at the token limit"

# Words of OpenAI, Anthropic, Gemini, Mistral, Cohere, Z.ai, DeepSeek, TGI, vLLM and gateways.
_ENDED = re.compile(r"(stop|eos|eot|end|complete|finish|tool|function)\w*|done|normal|none|null|")
_BROKEN = re.compile(r"error|abort|cancel|network|fail|timeout|resource|unavailable|overload")
_FILTERED = re.compile(
    r"filter|safety|refus|block|prohibit|spii|recitation|sensitive|guardrail|moderat|toxic|flagged"
)
_LIMITED = re.compile(r"length|max|limit|exceed|truncat|incomplete|cut")

_NAMES = r"think|thinking|thoughts?|reasoning|seed:think"
_OPENING = rf"(?:<(?:{_NAMES})(?:\s[^<>]*)?>|\[THINK\]|◁think▷|<\|begin_of_thought\|>)"
_OPENED = re.compile(rf"[\s\ufeff]*{_OPENING}", re.I)
_LEFT_OPEN = re.compile(rf"{_OPENING}\s*\Z", re.I)
_CLOSED = re.compile(rf"</(?:{_NAMES})\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>", re.I)
_TAG = re.compile(rf"<(?P<close>/?)(?:{_NAMES})\s*>", re.I)
_LINE_END = re.compile(r"[^\S\n]*(?:\n|\Z)")
_END_TOKEN = re.compile(r"(?:<\|\w{1,24}\|>|</s>|<end_of_turn>|<eos>)\Z")


def incomplete(finish_reason: str | None) -> tuple[CandidateStatus, str] | None:
    """Status and reason of a reply that did not end by itself; None of one that did.

    >>> incomplete("MAX_TOKENS")
    ('truncated', 'cut at the token limit')
    >>> incomplete("stop") is incomplete(None) is None
    True
    """
    word = (finish_reason or "").strip().lower()
    if _ENDED.fullmatch(word):
        return None
    if _BROKEN.search(word):
        return "failed", f"broken off by the server: {word[:40]}"
    if _FILTERED.search(word):
        return "refused", f"stopped by the server's filter: {word[:40]}"
    if _LIMITED.search(word) or "context_window" in word:
        return "truncated", CUT
    return "unparsed", f"ended for an unknown reason: {word[:40]}"


def split_reasoning(text: str) -> tuple[str | None, str]:
    r"""The reasoning at a text's start, None where there is none, and what follows it.

    A block that is not closed takes the whole text. Further on in the text, the tags are text.

    >>> split_reasoning("<think>\nHm.\n</think>\n\n42")
    ('Hm.', '42')
    >>> split_reasoning("Write <think> first.")
    (None, 'Write <think> first.')
    """
    blocks, start = [], 0
    while opened := _OPENED.match(text, start):
        closed = _CLOSED.search(text, opened.end())
        blocks.append(text[opened.end() : closed.start() if closed else len(text)].strip())
        start = closed.end() if closed else len(text)
    return ("\n\n".join(blocks), text[start:].lstrip()) if blocks else (None, text)


def opens_reasoning(prompt: str) -> bool:
    """Whether a rendered prompt ends within a block that the reply goes on with."""
    return _LEFT_OPEN.search(prompt, max(0, len(prompt) - 64)) is not None


def answer_text(text: str) -> str:
    r"""A text without reasoning, end tokens, and what a prompt opened and the reply only closes.

    >>> answer_text("Hm, six times seven.\n</think>\n42<|im_end|>")
    '42'
    """
    text = split_reasoning(text)[1]
    tag = _TAG.search(text)
    if tag and tag["close"] and text[: tag.start()].endswith("\n"):
        text = text[tag.end() :].lstrip() if _LINE_END.match(text, tag.end()) else text
    return without_end_tokens(text)


def without_end_tokens(text: str) -> str:
    """A text without the control tokens that a server left behind it."""
    while found := _END_TOKEN.search(text, max(0, len(text) - 32)):
        text = text[: found.start()].rstrip()
    return text
