"""Teacher text -> the fields of a candidate, or a named reason why there are none.

Marks are found, those that count open a part, the next `[End]` closes it, the part is cleaned.
What cannot be told apart is never guessed: it is `unparsed`, and the reason says what it was
(docs/method.md, section 1).
"""

import re
from bisect import bisect_left
from dataclasses import dataclass

from ...records import CandidateStatus
from .endings import incomplete, split_reasoning, without_end_tokens
from .marks import PARTS, Mark, ends_line, scan, unshield
from .wording import (
    Part,
    cleaned,
    is_placeholder,
    is_refusal,
    refuses,
    undecorated,
    without_trailer,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a reply holds: the asked-for texts (`ok`), or a status, its reason and no text."""

    status: CandidateStatus
    reason: str | None = None
    instruction: str | None = None
    output: str | None = None
    boilerplate: bool = False  # an opening about the text itself was stripped


def parse_instruction_reply(
    text: str,
    *,
    finish_reason: str | None,
    example_texts: tuple[str, ...],
    reasoning: str | None = None,
) -> Parsed:
    """The new pair of an instruction reflection; `example_texts` are those of the old pair.

    `reasoning` is what was split off the text before.

    >>> reply = "Too easy. [New Instruction] Add 17 and 25. [End] [New Answer] It is 42. [End]"
    >>> parse_instruction_reply(reply, finish_reason="stop", example_texts=()).output
    'It is 42.'
    """
    wanted: tuple[Part, ...] = ("new instruction", "new answer")
    return _parse(text, wanted, finish_reason, example_texts, reasoning)


def parse_response_reply(
    text: str,
    *,
    finish_reason: str | None,
    example_texts: tuple[str, ...],
    reasoning: str | None = None,
) -> Parsed:
    """The better answer of a response reflection, as `.output`."""
    return _parse(text, ("better answer",), finish_reason, example_texts, reasoning)


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
    text: str,
    wanted: tuple[Part, ...],
    finish_reason: str | None,
    examples: tuple[str, ...],
    reasoning: str | None,
) -> Parsed:
    if (found := incomplete(finish_reason)) is not None:
        return Parsed(status=found[0], reason=found[1])
    try:
        reply = _without_reasoning(_lines(text).removeprefix("\ufeff").strip(), wanted, reasoning)
        parts = _parts(_Source(without_end_tokens(reply), wanted, examples))
    except _Rejected as rejected:
        return rejected.parsed
    return Parsed(
        status="ok",
        instruction=parts["new instruction"][0] if "new instruction" in parts else None,
        output=parts[wanted[-1]][0],
        boilerplate=any(stripped for _, stripped in parts.values()),
    )


def _parts(source: "_Source") -> dict[Part, tuple[str, bool]]:
    if not source.bodies:
        refusal = refuses(source.text)
        raise _Rejected("a refusal", "refused") if refusal else _Rejected("no markers")
    return {kind: source.part(kind) for kind in source.wanted}


# Reasoning

_THINK = re.compile(r"<(?P<close>/?)think(?:ing)?>", re.I)


def _without_reasoning(text: str, wanted: tuple[Part, ...], reasoning: str | None) -> str:
    if not text and reasoning is None:
        raise _Rejected("empty reply")
    found, reply = split_reasoning(text)
    tag = _THINK.search(reply)
    if found is None and tag and tag["close"] and _ends_reasoning(reply, tag, wanted):
        reply = reply[tag.end() :].strip()
    if not reply:
        raise _Rejected("reasoning without a reply")
    return reply


def _ends_reasoning(text: str, tag: re.Match[str], wanted: tuple[Part, ...]) -> bool:
    """Whether a closing tag that nothing opened ends a thought, rather than being spoken about."""
    before, after = text[: tag.start()], text[tag.end() :]
    if {mark.kind for mark in scan(after)}.issuperset(wanted):
        return True
    if {mark.kind for mark in scan(before)}.isdisjoint(wanted):
        return True
    if before.endswith("\n") or ends_line(after, 0):
        raise _Rejected("a stray </think> among the markers")
    return False


# Parts

_WORD = re.compile(r"\w")
_GLUED_END = re.compile(r"[\w\]]\[end\]\s*+\Z")
_FURTHER_TURN = re.compile(
    r"^[^\S\n]*+(?:(?:#{1,6}[^\S\n]*+|\*\*)?(?:User|USER|Human|HUMAN|Assistant|ASSISTANT)(?:\*\*)?:"
    r"|\#{1,6}[^\S\n]*+(?:Instruction|Input|Response|User|Human|Assistant)\b"
    r"|<\|(?:im_start|start_header_id|user|assistant)\|>|<start_of_turn>)",
    re.M,
)
_REMARK = re.compile(
    r"^\W{0,4}\[(?:why|explanation|note|reason|rationale|conclusion|comment|critique|criticism"
    r"|changes|improvement)[^\]\n]{0,60}\]",
    re.I | re.M,
)
_BOLD_LABEL = re.compile(r"^[^\S\n]*+\*\*[^*\n]{2,80}(?::\*\*|\*\*[^\S\n]*+:)", re.M)


def _goes_on(body: str, mark: Mark) -> bool:
    """Whether remarks in the form of the part's own mark, or a further turn, follow the part."""
    if _FURTHER_TURN.search(body):
        return True
    if mark.bracketed:
        return _REMARK.search(body) is not None
    hashes = re.match(r"\s*(#{1,6})", mark.decoration)
    if hashes and re.search(rf"^{hashes[1]}[^\S\n#]", body, re.M):
        return True
    if "**" in mark.decoration and _BOLD_LABEL.search(body):
        return True
    return mark.number is not None and _next_step(body, mark.number)


def _next_step(body: str, number: int) -> bool:
    """Whether the list that a mark is an item of goes on, rather than one within the part."""
    return _has_step(body, number + 1) and not _has_step(body, number)


def _has_step(body: str, number: int) -> bool:
    step = rf"^[^\S\n]*+[*_#>]{{0,4}}(?:step )?{number}[.):](?=[\s*_])"
    return re.search(step, body, re.I | re.M) is not None


class _Source:
    """A reply with what is needed to read it: the parts asked for, the record's own marks."""

    def __init__(self, text: str, wanted: tuple[Part, ...], examples: tuple[str, ...]):
        self.text, self.wanted = text, wanted
        own = (mark for example in examples for mark in scan(_lines(example)))
        self.own = {(mark.kind, mark.bracketed) for mark in own}
        self.marks = [m for m in scan(text) if m.bracketed or m.kind in wanted]
        self.ends = [mark for mark in self.marks if mark.kind == "end"]
        kinds = [kind for kind in PARTS if kind in wanted or (kind, True) not in self.own]
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
        if end is None:
            self.check_unclosed(body, mark, after)
            body = without_trailer(body)
        return undecorated(body, quoted=">" in mark.decoration, bold=mark.bold)

    def check_unclosed(self, body: str, mark: Mark, after: Mark | None) -> None:
        """Reject a part without an `[End]` where it is not plain where it ends."""
        if any((m.kind, m.bracketed) in self.own for m in (mark, after) if m):
            raise _Rejected(
                f"no [End] after the {mark.kind}, and the record has markers of its own"
            )
        if after and after.kind not in self.wanted:
            raise _Rejected(f"a marker inside the {mark.kind}")
        if _GLUED_END.search(body):
            raise _Rejected(f"[end] directly behind a word at the end of the {mark.kind}")
        if _goes_on(body, mark):
            raise _Rejected(f"no [End] after the {mark.kind}, and more follows")

    def closing(self, mark: Mark, stop: int) -> Mark | None:
        """The one `[End]` of a part. The record's own may stand within its lines."""
        first, last = (bisect_left(self.ends, at, key=lambda m: m.start) for at in (mark.end, stop))
        ends = self.ends[first:last]
        if ends and ("end", True) in self.own:
            ends = [end for end in ends if end.ends_line]
            if not ends:
                raise _Rejected("[End] within a line, and the record's own text contains it")
        if len(ends) > 1 and _WORD.search(self.text, ends[0].end, ends[-1].start):
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
