"""Teacher text -> the fields of a candidate, or a named reason why there are none (METHOD.md, 1).

Marks are found, those that count open a part, the next `[End]` closes it, the part is cleaned.
What cannot be told apart is never guessed: it is `unparsed`, and the reason says what it was.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from ..records import CandidateStatus
from .wording import (
    Part,
    cleaned,
    is_placeholder,
    is_refusal,
    refuses,
    strip_boilerplate,
    undecorated,
    without_trailer,
)

__all__ = [
    "Parsed",
    "parse_instruction_reply",
    "parse_response_reply",
    "same_text",
    "shield",
    "strip_boilerplate",
    "unshield",
]

_PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a reply holds: the asked-for texts (`ok`), or a status, its reason and no text."""

    status: CandidateStatus
    reason: str | None = None
    instruction: str | None = None
    output: str | None = None
    boilerplate: bool = False  # an opening about the text itself was stripped


def parse_instruction_reply(
    text: str, *, finish_reason: str | None, example_texts: tuple[str, ...]
) -> Parsed:
    """The new pair of an instruction reflection; `example_texts` are those of the old pair.

    >>> reply = "Too easy. [New Instruction] Add 17 and 25. [End] [New Answer] It is 42. [End]"
    >>> parse_instruction_reply(reply, finish_reason="stop", example_texts=()).output
    'It is 42.'
    """
    return _parse(text, ("new instruction", "new answer"), finish_reason, example_texts)


def parse_response_reply(
    text: str, *, finish_reason: str | None, example_texts: tuple[str, ...]
) -> Parsed:
    """The better answer of a response reflection, as `.output`."""
    return _parse(text, ("better answer",), finish_reason, example_texts)


def same_text(a: str, b: str) -> bool:
    """Whether two texts are equal but for outer white space and the kind of line end."""
    return _lines(a).strip() == _lines(b).strip()


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _Rejected(Exception):
    """A reply that holds no valid candidate; never leaves this module."""

    def __init__(self, reason: str, status: CandidateStatus = "unparsed"):
        super().__init__(reason)
        self.parsed = Parsed(status=status, reason=reason)


def _parse(
    text: str, wanted: tuple[Part, ...], finish_reason: str | None, examples: tuple[str, ...]
) -> Parsed:
    if finish_reason == "length":
        return Parsed(status="truncated", reason="cut by the server at its token limit")
    try:
        reply = _without_thought(_lines(text).removeprefix("\ufeff").strip(), wanted)
        source = _Source(reply, wanted, examples)
        if not source.bodies:
            raise _Rejected("a refusal", "refused") if refuses(reply) else _Rejected("no markers")
        parts = {kind: source.part(kind) for kind in wanted}
    except _Rejected as rejected:
        return rejected.parsed
    return Parsed(
        status="ok",
        instruction=parts["new instruction"][0] if "new instruction" in parts else None,
        output=parts[wanted[-1]][0],
        boilerplate=any(stripped for _, stripped in parts.values()),
    )


# Reasoning

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.I | re.S)
_THINK = re.compile(r"<(?P<close>/?)think(?:ing)?>", re.I)


def _without_thought(text: str, wanted: tuple[Part, ...]) -> str:
    if not text:
        raise _Rejected("empty reply")
    thought, tag = _THOUGHT.match(text), _THINK.search(text)
    if not thought and tag and tag["close"] and _ends_thought(text, tag, wanted):
        thought = tag
    reply = text[thought.end() :].strip() if thought else text
    if not reply:
        raise _Rejected("reasoning without a reply")
    return reply


def _ends_thought(text: str, tag: re.Match[str], wanted: tuple[Part, ...]) -> bool:
    """Whether a closing tag that nothing opened ends a thought, rather than being spoken about."""
    before, after = text[: tag.start()], text[tag.end() :]
    if {mark.kind for mark in scan(after)}.issuperset(wanted):
        return True
    if {mark.kind for mark in scan(before)}.isdisjoint(wanted):
        return True
    if before.endswith("\n") or _LINE_ENDS.match(after):
        raise _Rejected("a stray </think> among the markers")
    return False


# Marks

_W = r"[^\S\n]"  # white space within a line
_NUM = rf"(?:\(?\d{{1,2}}[.):]|step{_W}+\d{{1,2}}[.:)]?)"
_BULLET = rf"{_W}|>|[-*+•–—](?={_W})"  # noqa: RUF001
_DECOR = rf"(?:{_BULLET}|\#|{_NUM})*"
_BOLD = r"(?P<b>\*{1,3}|_{1,3}|`)?"
_GLUE = rf"(?:{_W}|[_-])*"
_NAME = rf"(?P<name>new{_GLUE}(?:instruction|answer)|better{_GLUE}answer)"
_OF = (
    rf"{_W}+(?:of{_W}+)?(?:the{_W}+)?(?:(?:new|better){_W}+)?(?:instruction|answer|response|reply)"
)
_END = rf"(?:/?\s*end(?:{_OF})?|/\s*{_NAME.replace('?P<name>', '?:')})\s*[.:]?"
_INDEX = r"(?!(?<=[\w\]])(?-i:\[end\]))"  # arr[end] is code
_COLON = rf"(?:{_W}*[:：])"  # noqa: RUF001
_AFTER = rf"(?P<colon>{_COLON})?(?P<shut>(?P=b))?(?P<late>{_COLON})?"
_FLAGS = re.I | re.M
_BRACKETED = re.compile(
    rf"(?P<lead>^{_DECOR})?{_BOLD}(?(lead){_NUM}?{_W}*)"
    rf"(?P<tag>\[{{1,3}}\s*{_NAME}\s*:?\s*\]{{1,3}}){_AFTER}",
    _FLAGS,
)
_PLAIN = re.compile(
    rf"(?P<lead>(?:^|(?<=\[end\])){_DECOR}){_BOLD}{_NUM}?{_W}*(?:the{_W}+)?(?P<tag>{_NAME}){_AFTER}",
    _FLAGS,
)
_CLOSING = re.compile(
    rf"(?P<lead>^(?:{_BULLET}|\#)*)?{_BOLD}{_INDEX}"
    rf"(?P<tag>\[{{1,3}}\s*{_END}\s*\]{{1,3}})(?P<shut>(?P=b))?",
    _FLAGS,
)
_GAP = re.compile(r"(?:[\W_]|\d{1,2}[.)])*")  # what may stand between a mark and the next
_LINE_ENDS = re.compile(rf"[*_`~.,;]*{_W}*(?:\n|\Z)")
_QUOTES = tuple("\"'`(“‘«")  # noqa: RUF001
_STOPS = tuple(".!?:;…)]。！？")  # noqa: RUF001
_INSIDE = rf"(?=\s*(?:{_NAME}\s*:?|{_END})\s*\])"
_OPEN = re.compile(rf"{_INDEX}\[{_INSIDE}", re.I)
_SHIELDED = re.compile(rf"\[\u2060{_INSIDE}", re.I)


def shield(text: str) -> str:
    """The text with U+2060 WORD JOINER in each marker, so that a reply's own stand out from it."""
    return _OPEN.sub("[\u2060", text)


def unshield(text: str) -> str:
    """The inverse of `shield`."""
    return _SHIELDED.sub("[", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that looks like a marker, with the decoration around it."""

    kind: Part | Literal["end"]
    start: int
    end: int
    bracketed: bool
    leads: bool  # a line, or follows another mark directly
    ends_line: bool  # or another mark follows directly
    sentence: bool  # may open a part although it stands within a line
    closed: bool  # brackets, text and its `[End]` follow
    quoted: bool  # behind a `>`
    bold: str  # what was opened in front of the mark and not closed behind it


def scan(text: str) -> list[Mark]:
    """Every mark of the text, in order."""
    plain = (m for m in _PLAIN.finditer(text) if _is_label(text, m))
    found = [*plain, *_BRACKETED.finditer(text), *_CLOSING.finditer(text)]
    found.sort(key=lambda m: m.start("tag"))
    marks: list[Mark] = []
    for m, after in zip(found, [*found[1:], None], strict=False):
        marks.append(_mark(text, m, marks[-1] if marks else None, after))
    return marks


def _is_label(text: str, m: re.Match[str]) -> bool:
    return bool(m["colon"] or m["late"] or _LINE_ENDS.match(text, m.end()))


def _mark(text: str, m: re.Match[str], before: Mark | None, after: re.Match[str] | None) -> Mark:
    leads, is_end = m["lead"] is not None, m.re is _CLOSING
    start = m.start() if m["shut"] or leads else m.start("tag")
    if before and (before.kind == "end" or before.leads):
        leads = leads or bool(_GAP.fullmatch(text, before.end, start))
    near = after is not None and bool(_GAP.fullmatch(text, m.end(), after.start("tag")))
    return Mark(
        kind="end" if is_end else _kind(m["name"]),
        start=start,
        end=m.end(),
        bracketed=m["tag"].startswith("["),
        leads=leads,
        ends_line=near or bool(_LINE_ENDS.match(text, m.end())),
        sentence=not is_end and _opens_sentence(text, m, after),
        closed=not is_end and _is_closed(text, m, after),
        quoted=">" in (m["lead"] or ""),
        bold="" if m["lead"] is None or m["shut"] else m["b"] or "",
    )


def _is_closed(text: str, m: re.Match[str], after: re.Match[str] | None) -> bool:
    """Whether a bracketed, unquoted mark is followed by some text and then by its `[End]`."""
    if after is None or after.re is not _CLOSING or not m["tag"].startswith("["):
        return False
    between = text[m.end() : after.start("tag")]
    named_only = re.fullmatch(r"\W*(and|or|to|\W)*\W*", between)  # "between [Answer] and [End]"
    before = text[: m.start("tag")]
    spoken_of = re.search(r"\b(an?|the|no|any|your|this|that|another|between) *\Z", before, re.I)
    return not named_only and not spoken_of and not before.endswith(_QUOTES)


def _kind(name: str) -> Part:
    joined = re.sub(r"[\W_]", "", name.lower())
    return next(part for part in _PARTS if part.replace(" ", "") == joined)


def _opens_sentence(text: str, m: re.Match[str], after: re.Match[str] | None) -> bool:
    """Whether a mark within a line may open a part: not quoted, not a word of its sentence."""
    before = text[: m.start("tag")]
    if before.endswith(_QUOTES):
        return False
    stopped = before.rstrip("*_ \t").endswith(_STOPS)
    closed = after is not None and after.re is _CLOSING
    upper = not text[m.end() :].lstrip()[:1].islower()
    return stopped + closed + upper >= 2


class _Source:
    """A reply with what is needed to read it: the parts asked for, the record's own marks."""

    def __init__(self, text: str, wanted: tuple[Part, ...], examples: tuple[str, ...]):
        self.text, self.wanted = text, wanted
        own = (mark for example in examples for mark in scan(_lines(example)))
        self.own = {(mark.kind, mark.bracketed) for mark in own}
        self.marks = [m for m in scan(text) if m.bracketed or m.kind in wanted]
        kinds = [kind for kind in _PARTS if kind in wanted or (kind, True) not in self.own]
        openers = sorted((m for kind in kinds for m in self.openers(kind)), key=lambda m: m.start)
        pairs = zip(openers, [*openers[1:], None], strict=False)
        self.bodies = [(m, self.body(m, after)) for m, after in pairs if m.kind in wanted]

    def openers(self, kind: Part) -> list[Mark]:
        """The marks that open a part: those that lead a line before those within one."""
        mine = [mark for mark in self.marks if mark.kind == kind]
        leading = [mark for mark in mine if mark.leads]
        if (kind, False) in self.own and any(mark.bracketed for mark in leading):
            return [mark for mark in leading if mark.bracketed]
        if leading or (kind, True) in self.own:
            return leading
        return [mark for mark in mine if mark.sentence] or [m for m in mine if m.closed]

    def body(self, mark: Mark, after: Mark | None) -> str:
        """The raw text between a mark and the `[End]` that closes it, or else the next part."""
        stop = after.start if after else len(self.text)
        end = self.closing(mark, stop)
        body = self.text[mark.end : end.start if end else stop]
        if end:
            return undecorated(body, quoted=mark.quoted, bold=mark.bold)
        if any((m.kind, m.bracketed) in self.own for m in (mark, after) if m):
            raise _Rejected(
                f"no [End] after the {mark.kind}, and the record has markers of its own"
            )
        if after and after.kind not in self.wanted:
            raise _Rejected(f"a marker inside the {mark.kind}")
        if re.search(r"[\w\]]\[end\]\s*\Z", body):
            raise _Rejected(f"[end] directly behind a word at the end of the {mark.kind}")
        return undecorated(without_trailer(body), quoted=mark.quoted, bold=mark.bold)

    def closing(self, mark: Mark, stop: int) -> Mark | None:
        """The one `[End]` of a part. The record's own may stand within its lines."""
        ends = [m for m in self.marks if m.kind == "end" and mark.end <= m.start < stop]
        if ends and ("end", True) in self.own:
            ends = [end for end in ends if end.ends_line]
            if not ends:
                raise _Rejected("[End] within a line, and the record's own text contains it")
        if any(re.search(r"\w", self.text[ends[0].end : end.start]) for end in ends[1:]):
            raise _Rejected(f"more than one [End] after the {mark.kind}")
        return ends[0] if ends else None

    def part(self, kind: Part) -> tuple[str, bool]:
        """The one text of a kind, and whether boilerplate was stripped from it."""
        found = dict(cleaned(body, kind) for mark, body in self.bodies if mark.kind == kind)
        real = [text for text in found if text and not is_placeholder(text)]
        if not found:
            raise _Rejected(f"no {kind}")
        if not real:
            raise _Rejected(f"placeholder as the {kind}" if any(found) else f"empty {kind}")
        if len(real if self.own.isdisjoint({(kind, True), (kind, False)}) else found) > 1:
            raise _Rejected(f"more than one {kind}")
        if any(self.is_foreign(mark) for mark in scan(real[0])):
            raise _Rejected(f"a marker inside the {kind}")
        if is_refusal(real[0]):
            raise _Rejected(f"a refusal as the {kind}", "refused")
        return unshield(real[0]), any(found.values())

    def is_foreign(self, mark: Mark) -> bool:
        """Whether a mark that is left in a part is none of the record's own."""
        counts = mark.bracketed or mark.kind in self.wanted
        return counts and (mark.kind, mark.bracketed) not in self.own
