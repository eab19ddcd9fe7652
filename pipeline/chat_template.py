"""A Jinja chat template, in the form in which it renders all that it is given.

Words of a record that look like special tokens are shielded while a template renders them, so that
who tokenises the text takes only the template's own markup for special tokens.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from threading import Thread
from typing import Any

from .errors import CurateError
from .records import Message

# What a template that writes today's date gets, on any day (the date that Llama 3 falls back on).
DATE = datetime(2024, 7, 26)
CHECK_SECONDS = 20
"""How long the rendering of three short conversations may take."""
SHIELD = "\ufdd0"
"""A code point that is no character and occurs in no text."""
_SYSTEM, _QUESTION, _ANSWER = "sentinel-system", "sentinel-question", "sentinel-answer"

Turn = dict[str, Any]
Render = Callable[[list[Turn], bool], str]
"""(turns, add_generation_prompt) -> text."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Renders a conversation up to where its next response starts.

    `separator` is the white space that the template puts between its generation prompt and an
    answer; `leading_space` are the spaces at the end of both, which are tokenised with the answer.
    """

    source: str
    render: Render
    special: re.Pattern[str] | None = None
    in_parts: bool = False
    """Contents are lists of parts, `[{"type": "text", "text": …}]`, for this template."""
    system_turn: bool = True
    """Else a system turn goes in front of the first question."""
    generation_prompt: bool = True
    """Else a prompt is what stands in front of an answer."""
    separator: str = ""
    leading_space: str = ""

    def __call__(self, messages: Sequence[Message]) -> str:
        """The prompt; shielded where a text holds words that look like special tokens."""
        turns = self._turns(messages)
        if self.generation_prompt:
            return self.render(turns, True)
        return self.render([*turns, self._turn("assistant", _ANSWER)], False).rpartition(_ANSWER)[0]

    def closed(self, messages: Sequence[Message]) -> str:
        """A conversation that ends with an answer, with all that the template puts behind it."""
        return self.render(self._turns(messages), False)

    @property
    def date(self) -> str | None:
        """The date that stands in for today's where the template asks for it."""
        return f"{DATE:%Y-%m-%d}" if "strftime_now" in self.source else None

    def _turns(self, messages: Sequence[Message]) -> list[Turn]:
        turns = [(m["role"], m["content"]) for m in messages]
        if turns[0][0] == "system" and not self.system_turn:
            system, question = turns[0][1], turns[1][1]
            turns[:2] = [("user", f"{system}\n\n{question}")]
        return [self._turn(*turn) for turn in turns]

    def _turn(self, role: str, text: str) -> Turn:
        if self.special is not None:
            text = self.special.sub(lambda match: match[0][0] + SHIELD + match[0][1:], text)
        return {
            "role": role,
            "content": [{"type": "text", "text": text}] if self.in_parts else text,
        }


def chat_template(tokenizer: Any, source: str, origin: str) -> ChatTemplate:
    """The template in the form that works, found by rendering sentinels.

    Raises CurateError where it cannot be rendered or leaves the instruction out. `origin` says in
    messages whose template it is.
    """
    render = partial(_render, tokenizer, source, origin)
    given = ChatTemplate(source, render, special_tokens(tokenizer))
    return _with_timeout(partial(_find_form, given, origin), origin)


def special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Matches the tokenizer's special tokens in a text; one group. None if it has none."""
    contents = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    longest_first = sorted(contents, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if contents else None


def _render(
    tokenizer: Any, source: str, origin: str, turns: list[Turn], add_generation_prompt: bool
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            turns,
            chat_template=source,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            strftime_now=DATE.strftime,
        )
    except Exception as error:  # noqa: BLE001 - a template's expressions raise all kinds
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise CurateError(f"{origin} cannot be rendered: {reason}") from None
    return str(text)


def _find_form(given: ChatTemplate, origin: str) -> ChatTemplate:
    user: Message = {"role": "user", "content": _QUESTION}
    forms = [replace(given, in_parts=in_parts) for in_parts in (False, True)]
    found = next((form for form in forms if _keeps(form, [user], _QUESTION)), None)
    if found is None:
        forms[0]([user])  # says why it cannot be rendered
        raise CurateError(f"{origin} leaves the instruction out of the prompt: take another one")
    system: Message = {"role": "system", "content": _SYSTEM}
    found = replace(found, system_turn=_keeps(found, [system, user], _SYSTEM, _QUESTION))
    return _find_ending(found, user)


def _keeps(form: ChatTemplate, messages: Sequence[Message], *texts: str) -> bool:
    try:
        prompt = form(messages)
    except CurateError:
        return False
    return all(text in prompt for text in texts)


def _find_ending(form: ChatTemplate, user: Message) -> ChatTemplate:
    """How prompt and answer meet: read from a conversation that has both."""
    prompt = form([user])
    try:
        answered = form.closed([user, {"role": "assistant", "content": _ANSWER}])
    except CurateError:  # a template for prompts alone
        answered = ""
    before, found, _ = answered.partition(_ANSWER)
    between = before.removeprefix(prompt) if found and before.startswith(prompt) else ""
    if between.strip() and prompt == form.closed([user]):
        form, prompt, between = replace(form, generation_prompt=False), before, ""
    separator = "" if between.strip() else between
    whole = prompt + separator
    spaces = whole[len(whole.rstrip(" ")) :]
    return replace(form, separator=separator, leading_space=spaces)


def _with_timeout(work: Callable[[], ChatTemplate], origin: str) -> ChatTemplate:
    """What the work gives. A template that goes on and on is left behind in a daemon thread."""
    outcome: Future[ChatTemplate] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again by who waits
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return outcome.result(timeout=CHECK_SECONDS)
    except TimeoutError:
        raise CurateError(f"{origin} is not rendered within {CHECK_SECONDS} s") from None
