"""Replies -> answers and verdicts against a given answer. Pure.

A place with two answers is `ambiguous`, one with none `unanswered`: neither right nor wrong. A
wrong reply that passes costs more than a right one that is missed: what is not plain is not read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ...config import CheckerName
from .answer_kinds import (
    number_of,
    plain,
    read_choice,
    read_number,
    read_text,
    read_word,
    same_text,
)
from .final_answer import Mark, is_remark, is_retracted, marks

Kind = Literal["choice", "word", "number", "math", "text"]
Verdict = Literal["correct", "wrong", "ambiguous", "unanswered"]

OPPOSITES = (("true", "false"), ("yes", "no"), ("valid", "invalid"), ("plausible", "implausible"),
             ("correct", "incorrect"), ("possible", "impossible"))  # fmt: skip


_LATEST = 20
"""So many marked places are looked at, from the last on."""


class BadAnswer(Exception):
    """Why a given answer cannot be checked against."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The answer to hold replies against; `options` are texts by letter, or words by themselves."""

    kind: Kind
    value: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def chance(self) -> float | None:
        """How often a guess is right, where the options are known."""
        return 1 / len(self.options) if self.options else None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a reply answered, None if nothing can be read, and whether it is right."""

    answer: str | None
    verdict: Verdict


def check(reply: str, gold: Gold) -> Checked:
    """Read the reply's last marked answer and compare it.

    >>> gold = Gold("number", "4")
    >>> check("The answer is 3. Wait, I forgot one. The answer is 4.", gold).verdict
    'correct'
    >>> check("It could be 4, or 3.", gold).verdict
    'unanswered'
    """
    found = final_answers(reply, gold)
    if not found:
        return Checked(None, "unanswered")
    if len(found) > 1:
        return Checked(" | ".join(found), "ambiguous")
    return Checked(found[0], "correct" if found[0] == gold.value else "wrong")


def final_answers(reply: str, gold: Gold) -> list[str]:
    """What the last marked place holds: one answer, none, or several that leave it open."""
    for mark in reversed(marks(reply)[-_LATEST:]):
        found = _read(mark, gold)
        if mark.tone == "denied" and found and gold.value not in found:
            continue  # it denies another answer
        if not found and mark.tone == "stated" and (mark.optional or is_remark(mark.text)):
            continue
        if mark.tone == "denied":
            return []
        if found and (mark.tone == "hedged" or is_retracted(reply, mark)):
            return [*found, "?"]
        return found
    return []


def _read(mark: Mark, gold: Gold) -> list[str]:
    if gold.kind == "choice":
        return read_choice(mark.text, gold.options)
    if gold.kind == "word":
        return read_word(mark.text, gold.options or _vocabulary(gold.value))
    if gold.kind == "number":
        return read_number(mark.text)
    found = read_text(mark.text, gold.value)
    if gold.kind == "math":
        return _expressions(mark.text, gold.value)
    return [] if found != [gold.value] and (mark.optional or is_remark(mark.text)) else found


_JOINED = re.compile(r"\b(?:or|and)\b")


def _expressions(text: str, gold: str) -> list[str]:
    """The expression of a place; two that are joined in words are two."""
    line = text.split("\n", 1)[0].strip()
    if _JOINED.search(gold):
        return [line.rstrip(".")] if line else []
    dollars = re.match(r"\$+([^$]+)\$+", line)
    given = (
        dollars[1] if dollars else re.split(r"[.,;]?\s+[a-z]{2,}\s|\.(?:\s|$)", line)[0]
    ).strip(" .$*")
    rest = line[dollars.end() :] if dollars else line
    if _JOINED.search(rest):
        return [given, rest.strip()]
    return [given] if given else []


def _vocabulary(value: str) -> tuple[str, ...]:
    return next((pair for pair in OPPOSITES if value in pair), (value,))


# --- given answers --------------------------------------------------------------------------------

_LETTERED = re.compile(r"^[ \t]*(?:\(([A-Z])\)|([A-Z])[).:])[ \t]+(\S.*)$", re.MULTILINE)
_INLINE = re.compile(r"\(([A-Z])\)")
_LISTED = re.compile(r"^Options:\s*\n((?:[ \t]*[-*][ \t]+\S.*\n?)+)", re.MULTILINE | re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Za-z])\)?\.?")


def options_of(question: str) -> dict[str, str]:
    r"""The options that a question lists: texts by letter, or words by themselves.

    >>> options_of("Which?\nOptions:\n(A) a kite\n(B) a line")
    {'A': 'a kite', 'B': 'a line'}
    >>> options_of("Is it so?\nOptions:\n- Yes\n- No")
    {'yes': 'Yes', 'no': 'No'}
    """
    lines = [(m[1] or m[2], m[3].strip()) for m in _LETTERED.finditer(question)]
    _, *parts = _INLINE.split(question)
    inline = [
        (a, b.strip().partition("\n")[0]) for a, b in zip(parts[::2], parts[1::2], strict=True)
    ]
    for found in (lines, inline):
        run = _last_run(found)
        if len(run) > 1:
            return run
    listed = _LISTED.search(question)
    words = [line.strip(" \t-*") for line in listed[1].splitlines()] if listed else []
    return {word.casefold(): word for word in words if word}


def _last_run(found: list[tuple[str, str]]) -> dict[str, str]:
    """The last letters that go A, B, C and on without a gap."""
    run: dict[str, str] = {}
    for letter, text in found:
        if letter == "A":
            run = {}
        if ord(letter) - ord("A") == len(run):
            run[letter] = text
    return run


def gold_of(answer: str, question: str, checker: CheckerName) -> Gold:
    """What to check against; `auto` goes by the options of the question and the answer's form.

    Raises BadAnswer for one that is empty, no option, or no number.
    """
    answer = answer.strip()
    if not answer:
        raise BadAnswer("the answer is empty")
    options = options_of(question)
    lettered = bool(options) and all(letter.isupper() for letter in options)
    if checker == "auto" and lettered and not _LETTERED.search(question):
        # Letters in a running text need not be options.
        lettered = _named(answer, options) is not None
        options = options if lettered else {}
    kind = _kind(answer, options, lettered) if checker == "auto" else checker
    if kind == "choice":
        options = options if lettered else {}
        return Gold("choice", _letter(answer, options), options)
    if kind == "word":
        return _word_gold(answer, {} if lettered else options)
    if kind == "number":
        value = number_of(answer)
        if value is None:
            raise BadAnswer(f"the answer {answer[:80]!r} is no number")
        return Gold("number", value)
    return Gold(kind, answer)


def _kind(answer: str, options: Mapping[str, str], lettered: bool) -> Kind:
    if options:
        return "choice" if lettered else "word"
    if number_of(answer) is not None:
        return "number"
    return "word" if any(answer.casefold() in pair for pair in OPPOSITES) else "text"


def _letter(answer: str, options: Mapping[str, str]) -> str:
    letter = _named(answer, options)
    if letter is None:
        raise BadAnswer(f"the answer {answer[:80]!r} is no option")
    return letter


def _named(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that an answer is, or whose option's text it is; any letter without options."""
    found = _LETTER.fullmatch(plain(answer))
    if found and (not options or found[1].upper() in options):
        return found[1].upper()
    named = [letter for letter, text in options.items() if same_text(answer, text)]
    return named[0] if len(named) == 1 else None


def _word_gold(answer: str, options: Mapping[str, str]) -> Gold:
    value = answer.casefold()
    if options and value not in options:
        raise BadAnswer(f"the answer {answer[:80]!r} is no option")
    words = options or {word: word for word in _vocabulary(value) if len(_vocabulary(value)) > 1}
    return Gold("word", value, words)
