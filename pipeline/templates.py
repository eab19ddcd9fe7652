"""Loads and renders prompts/: the student's templates and the teacher's prompts."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from .config import TemplateName
from .errors import CurateError
from .records import Message, user_turn

PROMPTS = ("reflect_instruction", "reflect_response")

ChatRenderer = Callable[[list[Message]], str]


def fill(template: str, **values: str) -> str:
    """Put values into `{name}` places in one pass, so that braces in the values stay text.

    >>> fill("{a}-{b}", a="{b}", b="1")
    '{b}-1'
    """
    return re.sub("|".join(rf"\{{{name}\}}" for name in values), _value(values), template)


def _value(values: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda match: values[match.group()[1:-1]]


@cache
def _shipped(name: str) -> str:
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

    `chat` renders a list of messages with the student tokenizer's own chat template; None for the
    three published wire formats.
    """

    name: TemplateName
    chat: ChatRenderer | None = None

    def prompt(self, instruction: str, input: str = "", *, system: str | None = None) -> str:
        """T(x). A system turn goes in front of the instruction where the format has no place."""
        if self.chat is not None:
            turns: list[Message] = [{"role": "user", "content": user_turn(instruction, input)}]
            return self.chat(([{"role": "system", "content": system}] if system else []) + turns)
        if system:
            instruction = f"{system}\n\n{instruction}"
        wire = _shipped(f"{self.name}.input" if input else self.name)
        return fill(wire, instruction=instruction, input=input)

    def next_turn(self, instruction: str) -> str:
        """What follows an answer and its end where a wire format is asked a further question."""
        return fill(_shipped(f"{self.name}.next"), instruction=instruction)

    def guess(self, response: str) -> str:
        """T(G(y)): the request to guess the instruction, in the form without an input."""
        return self.prompt(fill(_shipped("guess"), response=response))

    def headers(self) -> tuple[str, str, str]:
        """The constant openings of T(x) with and without an input, and of T(G(y))."""
        # U+0001 stands in for the text: it is in no template.
        rendered = (self.prompt("\x01"), self.prompt("\x01", "\x01"), self.guess("\x01"))
        plain, with_input, guess = (text.partition("\x01")[0] for text in rendered)
        return plain, with_input, guess


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """The request to judge answers; `version` is the hash of its text."""

    text: str

    @property
    def version(self) -> str:
        """The first 16 hex digits of the SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def messages(self, **parts: str) -> tuple[Message, ...]:
        """One user turn, its constant part first; `parts` are the prompt's places."""
        return ({"role": "user", "content": fill(self.text, **parts)},)


def judge_prompt() -> JudgePrompt:
    """The shipped prompt that compares two answers."""
    return JudgePrompt(_shipped("judge_pair"))


def rating_prompt() -> JudgePrompt:
    """The shipped prompt that rates one answer from 0 to 5."""
    return JudgePrompt(_shipped("rate"))


@dataclass(frozen=True, slots=True)
class TeacherPrompts:
    """The two reflection prompts. `version` is the hash of both texts, part of a request's key."""

    reflect_instruction: str
    reflect_response: str

    @property
    def version(self) -> str:
        """The first 16 hex digits of the SHA-256 of both texts."""
        texts = "\0".join((self.reflect_instruction, self.reflect_response))
        return hashlib.sha256(texts.encode()).hexdigest()[:16]


def teacher_prompts(folder: Path | None = None) -> TeacherPrompts:
    """The shipped prompts, or those of a folder that holds files of the same names."""
    if folder is None:
        return TeacherPrompts(*(_shipped(name) for name in PROMPTS))
    return TeacherPrompts(*(_own_prompt(folder / f"{name}.txt") for name in PROMPTS))


def _own_prompt(path: Path) -> str:
    try:
        text = path.read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CurateError(f"cannot read the prompt {path}: {error}") from None
    for place in ("{instruction}", "{response}"):
        if place not in text:
            raise CurateError(f"the prompt {path} lacks the place {place}")
    if ("[New Instruction]" in text) != path.stem.endswith("instruction"):
        raise CurateError(
            f"the prompt {path} must {'not ' if 'response' in path.stem else ''}"
            "name the marker [New Instruction]"
        )
    return text
