r"""Where a reply states its final answer: the last marked place counts. Pure.

Marks are phrases ("the answer is X", "Answer: X", "X is the correct option"), `\boxed{X}`,
`#### X`, and a last line that is bold as a whole. A later mark replaces an earlier one: a reply may
correct itself; a mark within a condition ("if the answer is X") is none.
"""

import re
from dataclasses import dataclass
from typing import Literal

Tone = Literal["stated", "denied", "hedged"]

_SUBJECT = r"(?:answers?(?:\s+(?:choice|option))?|(?:correct|right|best|final)\s+(?:option|choice))"
_BE = r"(?:is|are|was|must\s+be|should\s+be|would\s+be|will\s+be|has\s+to\s+be)\b"
_MAY = r"(?:could|may|might|can)\s+(?:also\s+)?be\b"
_CANNOT = r"(?:cannot|can['\u2019]?t|can\s+not|could\s+not|couldn['\u2019]t)\s+be\b"
_MARK = re.compile(
    rf"""
    (?P<boxed>\\(?:boxed|fbox)\s*\{{)
  | (?P<tag><answer>)
  | (?P<hash>^\#\#\#\#\s)
  | (?P<reverse>\s(?:is(?P<isnt>n['\u2019]t|\s+not)?)\s+(?:the|my|our)\s+
        (?:(?:final|correct|right|best)\s+)*(?:answer|option|choice)\b(?!\s+(?:to\b|for\b)?[^.\n]{{0,60}}\bis\b))
  | \b(?P<subject>{_SUBJECT})(?:\s+(?:to|for|of)\s[^.:\n]{{1,80}}?)?[*_"]*
        (?:\s+(?P<denied>{_CANNOT}|{_BE}\s*(?:n['\u2019]t\b|\s+(?:not|never|neither)\b)|(?:is|was|are)n['\u2019]t\b)
          |\s+(?P<hedged>{_MAY})
          |\s+{_BE}(?:\s*[:=])?
          |\s*[:=]
          |(?P<heading>\s*$))
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_LINE_STARTS_BEFORE = re.compile(
    r"(?:^|\n)[\s#*_>]*(?:(?:the|my|our)\s+)?(?:(?:final|correct)\s+)?$", re.I
)
_NO_MARK = re.compile(
    r"\b(?:if|whether|unless|suppose|supposing|assume|assuming|(?:might|may|could|would|tempting\s+to)"
    r"\s+(?:think|say|believe|guess|expect)|glance,?)\s+(?:that\s+)?(?:the|my|our|an?|its)?\s*"
    r"(?:(?:final|correct|right|best)\s+)?$"
    r"|\b(?:wrong|incorrect|naive|tempting|common|initial|previous|earlier|intuitive|possible|plausible"
    r"|alternative|other|first|second|each|every)\s+$",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(
    r"(?:n['\u2019]t|\bnot|\bnever|\bdoubt|\bwrong|\bincorrect|\bfalse|\bunlikely|\bno)\s+"
    r"(?:(?:think|believe|say|mean|claim|conclude|assume|to|true|the\s+case|certain|sure|clear)\s+){0,3}"
    r"(?:that\s+)?(?:the|my|our|an?|any)?\s*(?:(?:final|correct|right|best)\s+)?\$*$",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"(?:clear|obvious|correct|right|consistent|supported|confirmed|justified|based|derived|obtained"
    r"|as\s+follows|given\s+(?:above|below)|above|unique|found|reached|verified)\b",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    r"(?:^|[.!?\n]\s*)(?:wait|hmm|hold\s+on|scratch\s+that|on\s+second\s+thought|actually|correction"
    r"|no,|let\s+me\s+re)"
    r"|\b(?:that|this|which)\s+(?:is|was|seems)\s+(?:wrong|incorrect|not\s+right|a\s+mistake)\b"
    r"|\bI\s+(?:made|was)\s+(?:a\s+mistake|an\s+error|wrong)\b",
    re.IGNORECASE,
)
_BOLD_LINE = re.compile(r"\*\*([^*\n]+)\*\*[.!]?\Z")
_NEXT_BOX = re.compile(
    r"[\s$\\.,;*()\[\]&]{0,40}(?:(?:or|and)\b)?[\s$*(\[]{0,40}\\(?:boxed|fbox)\s{0,9}\{",
    re.IGNORECASE,
)
_KEYWORDS = ("answer", " option", " choice", "boxed", "fbox", "####")
_CONTEXT = 80
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Mark:
    """One marked place: what stands there, and where in the reply the mark ends."""

    text: str
    tone: Tone
    end: int
    optional: bool = False
    """Where nothing can be read it is no mark ("this is the answer")."""


def marks(reply: str) -> list[Mark]:
    """All marked places of a reply, in its order.

    >>> [m.text for m in marks("The answer is 3. Wait. The answer is 4.")]
    ['3. Wait. The answer is 4.', '4.']
    """
    found: list[Mark] = []
    for match in _MARK.finditer(reply, _first_keyword(reply)):
        inside = found and match.start() < found[-1].end
        if not inside and (mark := _mark(reply, match)):
            found.append(mark)
    if not found and (bold := _BOLD_LINE.search(reply.rstrip())) and _starts_line(reply, bold):
        found = [Mark(bold[1], "stated", len(reply))]
    return found


def _first_keyword(reply: str) -> int:
    """Where the first mark can begin: looking for words is quicker than for marks."""
    lowered = reply.lower()
    found = [place for word in _KEYWORDS if (place := lowered.find(word)) >= 0]
    if len(lowered) != len(reply):  # a letter has become two
        return 0
    return max(min(found) - _CONTEXT, 0) if found else len(reply)


def is_remark(text: str) -> bool:
    """Whether a marked place holds a remark on the answer instead of one ("is clear")."""
    return _REMARK.match(text.lstrip(" *_")) is not None


def is_retracted(reply: str, mark: Mark) -> bool:
    """Whether what follows an answer takes it back or doubts it."""
    return _RETRACTED.search(reply, mark.end) is not None


def _mark(reply: str, match: re.Match[str]) -> Mark | None:
    before = _sentence_before(reply, match.start())
    if match["boxed"]:
        text, end = _boxed(reply, match.end())
        return Mark(text, _tone_before(before), end)
    if match["tag"]:
        return Mark(
            reply[match.end() : match.end() + _LONGEST].partition("<")[0], "stated", match.end()
        )
    if match["reverse"]:
        tone: Tone = "denied" if match["isnt"] else "stated"
        return Mark(before.strip(), tone, match.end(), optional=True)
    if match["hash"] is None:
        if match["heading"] is not None and not _LINE_STARTS_BEFORE.search(
            reply[max(match.start() - _CONTEXT, 0) : match.start()]
        ):
            return None
        if _NO_MARK.search(before):
            return None
    tone = "denied" if match["denied"] else "hedged" if match["hedged"] else _tone_before(before)
    text = reply[match.end() : match.end() + _LONGEST].lstrip(" \t\r\n*_#:")
    return Mark(text, tone, match.end())


def _tone_before(before: str) -> Tone:
    return "denied" if _DENIED_BEFORE.search(before) else "stated"


def _sentence_before(reply: str, end: int) -> str:
    """What stands in the same sentence before a place."""
    window = reply[max(end - _CONTEXT, 0) : end]
    return re.split(r"[.!?]\s|\n", window)[-1]


def _starts_line(reply: str, match: re.Match[str]) -> bool:
    return reply[: match.start()].rstrip(" ").endswith("\n") or not reply[: match.start()].strip()


def _boxed(reply: str, begin: int) -> tuple[str, int]:
    r"""The content of a box that opened at `begin`; boxes that follow at once belong to it.

    >>> _boxed(r"\boxed{\text{a}} or $\boxed{b}$.", 7)
    ('\\text{a} or b', 30)
    """
    texts = []
    while True:
        end = _closing(reply, begin)
        while reply.startswith("}", end + 1):  # a brace of the answer itself, as in `] ) }`
            end += 1
        texts.append(reply[begin:end])
        following = _NEXT_BOX.match(reply, end + 1)
        if following is None:
            return " or ".join(texts), end + 1
        begin = following.end()


def _closing(text: str, begin: int) -> int:
    """Where the brace that opened before `begin` closes, at the latest at the line's end."""
    depth = 1
    for index in range(begin, len(text)):
        if text[index] == "\n":
            return index
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text)
