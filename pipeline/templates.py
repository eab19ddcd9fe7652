"""Loads and renders prompts/: the student's templates and the teacher's prompts."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from .base.foreign_text import regular
from .chat_template import ChatTemplate, chat_template
from .errors import CurateError
from .records import Message, conversation, system_turns, user_turn

PROMPTS = ("reflect_instruction", "reflect_response")
SEPARATORS = {"vicuna": " ", "alpaca": "\n", "wizardlm": "\n"}
"""The published wire formats, and what `exact` puts between their prompts and a response."""


def fill(template: str, **values: str) -> str:
    """Put values into `{name}` places in one pass, so that braces in the values stay text.

    >>> fill("{a}-{b}", a="{b}", b="1")
    '{b}-1'
    """
    places = "|".join(rf"\{{{name}\}}" for name in values)
    return re.sub(places, lambda match: values[match[0][1:-1]], template)


@cache
def shipped(name: str) -> str:
    """A prompt or a template that comes with the package."""
    # The newline that ends the file is the file's, not the format's.
    return (
        resources.files("curate.prompts")
        .joinpath(f"{name}.txt")
        .read_text("utf-8")
        .removesuffix("\n")
    )


@dataclass(frozen=True, slots=True)
class Template:
    """The student's prompt T(x) for one user turn, up to where the response starts.

    `name` is that of a published wire format, else `chat` (the student tokenizer's own chat
    template) or `file`.
    """

    name: str
    chat: ChatTemplate | None = None

    @property
    def separator(self) -> str:
        """What stands between prompt and response beyond what `prompt` ends with."""
        return SEPARATORS[self.name] if self.chat is None else self.chat.separator

    @property
    def leading_space(self) -> str:
        """The spaces before a response: its first word is tokenised together with them."""
        return self.separator.strip("\n") if self.chat is None else self.chat.leading_space

    @property
    def date(self) -> str | None:
        """The date that the template writes in place of today's; None if it writes none."""
        return None if self.chat is None else self.chat.date

    @property
    def version(self) -> str:
        """The digest of the template's text and separator."""
        if self.chat is None:
            texts = [*map(shipped, (self.name, f"{self.name}.input", "guess")), self.separator]
        else:
            texts = [self.chat.source, shipped("guess")]
        return digest(*texts)

    def prompt(
        self,
        instruction: str,
        input: str = "",
        *,
        system: str | None = None,
        history: Sequence[Message] = (),
    ) -> str:
        """T(x), or T(h, x) behind a history; of a wire format its last turn alone.

        A system turn goes in front of the first instruction where the format has no place for it.
        """
        if self.chat is not None:
            about: dict[str, Any] = {"input": input, "system": system, "history": history}
            return self.chat(conversation([instruction], [], **about))
        if history:
            return self.next_turn(user_turn(instruction, input))
        if system:
            instruction = f"{system}\n\n{instruction}"
        wire = shipped(f"{self.name}.input" if input else self.name)
        return fill(wire, instruction=instruction, input=input)

    def context(self, history: Sequence[Message], *, system: str | None = None) -> tuple[str, ...]:
        """T(h): the whole text, or for a wire format its prompts and answers in turn."""
        if not history:
            return ()
        if self.chat is not None:
            return (self.chat.closed([*system_turns(system), *history]),)
        questions, answers = history[::2], history[1::2]
        first = self.prompt(questions[0]["content"], system=system)
        prompts = [first, *(self.next_turn(turn["content"]) for turn in questions[1:])]
        pairs = zip(prompts, answers, strict=True)
        return tuple(text for prompt, answer in pairs for text in (prompt, answer["content"]))

    def before_response(self, prompt: str) -> str:
        """A prompt up to the response's first token: with a line break, without a space."""
        return (prompt + self.separator).removesuffix(self.leading_space)

    def next_turn(self, instruction: str) -> str:
        """What follows an answer and its end where a wire format is asked a further question."""
        return fill(shipped(f"{self.name}.next"), instruction=instruction)

    def guess(
        self, response: str, *, system: str | None = None, history: Sequence[Message] = ()
    ) -> str:
        """T(G(y)): the request to guess the instruction, in the form without an input.

        T(h, G(y)) behind a history. A system turn alone is none.
        """
        request = fill(shipped("guess"), response=response)
        return self.prompt(request, system=system if history else None, history=history)

    def headers(self) -> tuple[str, str, str]:
        """The constant openings of T(x) with and without an input, and of T(G(y))."""
        # U+0001 stands in for the text: it is in no template.
        rendered = (self.prompt("\x01"), self.prompt("\x01", "\x01"), self.guess("\x01"))
        plain, with_input, guess = (text.partition("\x01")[0] for text in rendered)
        return plain, with_input, guess


def with_history(instruction: str, history: Sequence[Message]) -> str:
    """An instruction behind the turns before it, as a teacher is shown them."""
    names = {"user": "User", "assistant": "Assistant"}
    turns = "\n\n".join(f"{names[turn['role']]}: {turn['content']}" for turn in history)
    return fill(shipped("history"), history=turns, instruction=instruction)


def student_template(choice: str, tokenizer: Any) -> Template:
    """The template that `--template` names; `auto` is `chat` where the tokenizer has one.

    Raises CurateError for `chat` with a tokenizer that has none, and for a template that does not
    render the instruction.
    """
    if choice == "auto":
        choice = "chat" if tokenizer.chat_template else "vicuna"
    if choice in SEPARATORS:
        return Template(choice)
    if choice != "chat":
        return Template("file", chat_template(tokenizer, _read(Path(choice)), choice))
    if not tokenizer.chat_template:
        raise CurateError("--template chat: the student's tokenizer has no chat template")
    try:
        source = tokenizer.get_chat_template()
    except ValueError:
        names = ", ".join(sorted(tokenizer.chat_template))
        raise CurateError(
            f"the student's tokenizer has several chat templates ({names}) and no default: write "
            "one of them into a file and give --template FILE"
        ) from None
    return Template("chat", chat_template(tokenizer, source, "the student's chat template"))


@dataclass(frozen=True, slots=True)
class TeacherPrompts:
    """The two reflection prompts. `version` is the hash of both texts, part of a request's key."""

    reflect_instruction: str
    reflect_response: str

    @property
    def version(self) -> str:
        """The digest of both texts."""
        return digest(self.reflect_instruction, self.reflect_response)


def digest(*texts: str) -> str:
    """The first 16 hex digits of the SHA-256 of some texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:16]


def teacher_prompts(folder: Path | None = None) -> TeacherPrompts:
    """The shipped prompts, or those of a folder that holds files of the same names."""
    if folder is None:
        return TeacherPrompts(*(shipped(name) for name in PROMPTS))
    return TeacherPrompts(*(_own_prompt(folder / f"{name}.txt") for name in PROMPTS))


def _own_prompt(path: Path) -> str:
    text = _read(path).removesuffix("\n")
    for place in ("{instruction}", "{response}"):
        if place not in text:
            raise CurateError(f"the prompt {path} lacks the place {place}")
    if ("[New Instruction]" in text) != path.stem.endswith("instruction"):
        raise CurateError(
            f"the prompt {path} must {'not ' if 'response' in path.stem else ''}"
            "name the marker [New Instruction]"
        )
    return text


def _read(path: Path) -> str:
    try:
        return regular(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CurateError(f"cannot read the prompt {path}: {error}") from None


def asking_turn(prompt: str, **values: str) -> tuple[Message, ...]:
    """A shipped prompt, filled, as one user turn."""
    return ({"role": "user", "content": fill(shipped(prompt), **values)},)


def prompts_version(*names: str) -> str:
    """The digest of shipped prompts."""
    return digest(*map(shipped, names))
