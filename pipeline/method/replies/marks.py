"""The marks that open and close a reply's parts: `[New Instruction]`, `[End]`, and how they bend.

Every repetition that could be read in two ways is possessive, and what is looked at around a mark
is bounded: the work grows with the text's length, whatever its characters are.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from .wording import Part

PARTS: tuple[Part, ...] = get_args(Part)
_AROUND = 64  # characters before a mark that say how it is used

_W = r"[^\S\n]"  # white space within a line
_NUM = rf"(?:\(?\d{{1,2}}[.):]|step{_W}++\d{{1,2}}[.:)]?)"
_BULLET = rf"{_W}|>|[-*+•–—](?={_W})"  # noqa: RUF001
_DECOR = rf"(?:{_BULLET}|\#|{_NUM})*+"
_BOLD = r"(?P<b>\*{1,3}|_{1,3}|`)?"
_GLUE = rf"(?:{_W}|[_-])*+"
_NAME = rf"(?P<name>new{_GLUE}(?:instruction|answer)|better{_GLUE}answer)"
_OF = (
    rf"{_W}++(?:of{_W}++)?(?:the{_W}++)?(?:(?:new|better){_W}++)?"
    "(?:instruction|answer|response|reply)"
)
_END = rf"(?:/?\s*+end(?:{_OF})?|/\s*+{_NAME.replace('?P<name>', '?:')})\s*+[.:]?"
_INDEX = r"(?!(?<=[\w\]])(?-i:\[end\]))"  # arr[end] is code
_COLON = rf"(?:{_W}*+[:：])"  # noqa: RUF001
_AFTER = rf"(?P<colon>{_COLON})?(?P<shut>(?P=b))?(?P<late>{_COLON})?"
_FLAGS = re.I | re.M
_BRACKETED = re.compile(
    rf"(?P<lead>^{_DECOR})?{_BOLD}(?(lead){_NUM}?{_W}*+)"
    rf"(?P<tag>\[{{1,3}}\s*+{_NAME}\s*+:?\s*+\]{{1,3}}){_AFTER}",
    _FLAGS,
)
_PLAIN = re.compile(
    rf"(?P<lead>(?:^|(?<=\[end\])){_DECOR}){_BOLD}{_NUM}?{_W}*+(?:the{_W}++)?(?P<tag>{_NAME})"
    rf"{_AFTER}",
    _FLAGS,
)
_CLOSING = re.compile(
    rf"(?P<lead>^(?:{_BULLET}|\#)*+)?{_BOLD}{_INDEX}"
    rf"(?P<tag>\[{{1,3}}\s*+{_END}\s*+\]{{1,3}})(?P<shut>(?P=b))?",
    _FLAGS,
)
_GAP = re.compile(r"(?:[\W_]++|\d{1,2}[.)])*+")  # what may stand between a mark and the next
_LINE_ENDS = re.compile(rf"[*_`~.,;]*+{_W}*+(?:\n|\Z)")
_SPACE = re.compile(r"\s*+")
_WORD = re.compile(r"\w+")
_SPOKEN_OF = re.compile(r"\b(an?|the|no|any|your|this|that|another|between) *\Z", re.I)
_NUMBER = re.compile(r"(\d{1,2})[.):]|step\s+(\d{1,2})", re.I)
_QUOTES = tuple("\"'`(“‘«")  # noqa: RUF001
_STOPS = tuple(".!?:;…)]。！？")  # noqa: RUF001
_INSIDE = rf"(?=\s*+(?:{_NAME}\s*+:?|{_END})\s*+\])"
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
    decoration: str  # what stands in front of it on its line: `> `, `4. **`, `### `
    bold: str  # what was opened in front of the mark and not closed behind it

    @property
    def number(self) -> int | None:
        """Its number in a list of steps."""
        found = _NUMBER.search(self.decoration)
        return int(found[1] or found[2]) if found else None


def scan(text: str) -> list[Mark]:
    """Every mark of the text, in order."""
    plain = (m for m in _PLAIN.finditer(text) if _is_label(text, m))
    bracketed = (_BRACKETED, _CLOSING) if "[" in text else ()  # few records have any
    found = [*plain, *(m for pattern in bracketed for m in pattern.finditer(text))]
    found.sort(key=lambda m: m.start("tag"))
    marks: list[Mark] = []
    for m, after in zip(found, [*found[1:], None], strict=False):
        marks.append(_mark(text, m, marks[-1] if marks else None, after))
    return marks


def ends_line(text: str, position: int) -> bool:
    """Whether nothing but decoration follows on the line."""
    return _LINE_ENDS.match(text, position) is not None


def _is_label(text: str, m: re.Match[str]) -> bool:
    return bool(m["colon"] or m["late"]) or ends_line(text, m.end())


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
        ends_line=near or ends_line(text, m.end()),
        sentence=not is_end and _opens_sentence(text, m, after),
        closed=not is_end and _is_closed(text, m, after),
        decoration=text[m.start() : m.start("tag")] if m["lead"] is not None else "",
        bold="" if m["lead"] is None or m["shut"] else m["b"] or "",
    )


def _kind(name: str) -> Part:
    joined = re.sub(r"[\W_]", "", name.lower())
    return next(part for part in PARTS if part.replace(" ", "") == joined)


def _before(text: str, m: re.Match[str]) -> str:
    start = m.start("tag")
    return text[max(0, start - _AROUND) : start]


def _is_closed(text: str, m: re.Match[str], after: re.Match[str] | None) -> bool:
    """Whether a bracketed, unquoted mark is followed by some text and then by its `[End]`."""
    if after is None or after.re is not _CLOSING or not m["tag"].startswith("["):
        return False
    between = _WORD.findall(text, m.end(), after.start("tag"))
    named_only = {"and", "or", "to"}.issuperset(between)  # "between [Answer] and [End]"
    before = _before(text, m)
    return not named_only and not _SPOKEN_OF.search(before) and not before.endswith(_QUOTES)


def _opens_sentence(text: str, m: re.Match[str], after: re.Match[str] | None) -> bool:
    """Whether a mark within a line may open a part: not quoted, not a word of its sentence."""
    before = _before(text, m)
    if before.endswith(_QUOTES):
        return False
    stopped = before.rstrip("*_ \t").endswith(_STOPS)
    closed = after is not None and after.re is _CLOSING
    space = _SPACE.match(text, m.end())
    upper = space is None or not text[space.end() : space.end() + 1].islower()
    return stopped + closed + upper >= 2
