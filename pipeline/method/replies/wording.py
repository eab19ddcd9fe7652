"""The words of a part: what is wrapped around it, boilerplate in front, placeholders, refusals."""

import re
from typing import Literal

Part = Literal["new instruction", "new answer", "better answer"]

# Cleaning a part

_TRAILER = re.compile(r"[-*_]{3,}|[*_]+end[.:]?[*_]+", re.I)
_OPENING_FENCE = re.compile(r"(`{3,})(?:markdown|md|text|txt|plaintext)?[^\S\n]*+\n", re.I)
_FENCE = re.compile(r"^[^\S\n]*+`{3,}.*$", re.M)
_NUMBER = re.compile(r"[*_]*\d[.)][*_]*")
_PLACEHOLDER = re.compile(
    r"(?:(?:insert|write|enter|put|place|type|give)\s+)?(?:(?:your|the|my|an?)\s+)?"
    r"(?:(?:new|better|improved|revised|complete|full|own)\s+)*"
    r"(?:instruction|answer|response|text)(?:\s+(?:goes\s+)?here)?|n/a|tbd|todo",
    re.I,
)


def cleaned(body: str, kind: Part) -> tuple[str, bool]:
    """The part without its wrappings, to the innermost; whether an opening was among them."""
    text, stripped = trimmed(dedented(body)), False
    for _ in range(4):  # a wrapping may hold another
        text, opening = _strip(without_numbers(unwrapped(text)), _OPENINGS[kind])
        stripped = stripped or opening
    return text, stripped


def trimmed(text: str) -> str:
    """Without blank lines around it; the first line keeps its indentation."""
    return re.sub(r"\A(?:[^\S\n]*\n)+", "", text).rstrip()


def dedented(body: str) -> str:
    """Without the indentation that all lines share, if the part starts on a line of its own."""
    first = re.match(r"\s*\n([^\S\n]*)", body)
    if not first:
        return body.lstrip()
    shared = all(line.startswith(first[1]) for line in body.split("\n") if line.strip())
    return re.sub(rf"(?m)^{first[1]}", "", body) if shared else body


def without_trailer(body: str) -> str:
    """Without a ruled line, or an `[End]` that lost its brackets, as the last line."""
    rest, _, last = body.rstrip().rpartition("\n")
    return rest if _TRAILER.fullmatch(last.strip()) else body


def undecorated(body: str, *, quoted: bool, bold: str) -> str:
    """The body without what the decoration of its mark left in it: quote signs, half of a bold."""
    rest = [line for line in body.split("\n")[1:] if line.strip()]
    if quoted and all(line.lstrip().startswith(">") for line in rest):
        body = re.sub(r"(?m)^[^\S\n]*>[^\S\n]?", "", body)
    half = bold and body.rstrip().endswith(bold) and body.count(bold) % 2
    return body.rstrip().removesuffix(bold) if half else body


def unwrapped(text: str) -> str:
    """Without a fence (unless it names a language) or a bold that holds the whole text."""
    fences = _FENCE.findall(text)
    only = _OPENING_FENCE.match(fences[0].strip() + "\n") if len(fences) == 1 else None
    if only and only[1] == "```":
        rest = text.removeprefix(fences[0]).removesuffix(fences[0])
        return trimmed(rest)  # the fence's other half stands outside the part
    opened = _OPENING_FENCE.match(text)
    if opened and text.endswith(opened[1], opened.end()):
        body = text[opened.end() : -len(opened[1])].removesuffix("\n")
        if _holds_whole_blocks(body, opened[1]):
            return trimmed(body)
    return text[2:-2] if _is_bold(text) else text


def _is_bold(text: str) -> bool:
    """Whether one pair of `**` is around the whole text."""
    inner = text[2:-2]
    wrapped = len(text) > 4 and text.startswith("**") and text.find("**", 2) == len(text) - 2
    return wrapped and not inner[0].isspace() and inner[0] != "*" and not inner[-1].isspace()


def _holds_whole_blocks(body: str, fence: str) -> bool:
    """Whether each further fence in a fenced text opens with a language and is closed again."""
    inner = [line.strip() for line in _FENCE.findall(body) if line.strip().startswith(fence)]
    bare = [line == fence for line in inner]
    return not any(bare[::2]) and all(bare[1::2]) and len(bare) % 2 == 0


def without_numbers(text: str) -> str:
    """Without the number of one of the prompt's own steps, left over before or after the part."""
    *lines, last = text.split("\n")
    above = next((line.strip() for line in reversed(lines) if line.strip()), ":")
    if _NUMBER.fullmatch(last.strip()) and not (above.endswith(":") or _NUMBER.fullmatch(above)):
        text = "\n".join(lines).rstrip()
    first = re.match(r"([2-9])[.)]\s+(?=\S)", text)
    if not first:
        return text
    neighbours = f"[{int(first[1]) - 1}{int(first[1]) + 1}]"
    return text if re.search(rf"(?:^|\s)[*_]*{neighbours}[.)]", text) else text[first.end() :]


def is_placeholder(text: str) -> bool:
    """Whether the whole part is a word of the prompt's form, or only dots."""
    bare = re.sub(r"\s+", " ", text).strip(" \"'“”‘’`*_[]<>(){}.…:-")  # noqa: RUF001
    return bool(_PLACEHOLDER.fullmatch(bare) or re.fullmatch(r"[\s\[\](){}<>\"'*_.…]*", text))


# Boilerplate and refusals

_SURE = (
    r"(?:(?:sure(?:ly| thing)?|certainly|of course|absolutely|definitely|ok(?:ay)?|alright|great"
    r"|i apologi[sz]e[^.!:\n]{0,80}|thank(?:s| you)[^.!:\n]{0,60})[,.!:;\s–—-]++){0,3}"  # noqa: RUF001
)
_HERE = (
    r"(?:here\s*(?:['’]s|is|are|comes)|(?:below|(?:the )?following|this) is"  # noqa: RUF001
    r"|i(?: have|['’]ve) (?:re)?written|let me (?:give|offer|provide)(?: you)?(?: with)?)\s+"  # noqa: RUF001
)
_NEW = (
    r"(?:(?:new|better|improved|complete|revised|rewritten|detailed|updated|enhanced|refined"
    r"|comprehensive|thorough|more|much|even|far|fully|significantly|and|accurate|helpful|relevant)"
    r"[\s,/&-]++)+"
)
_VERSION = r"(?:version of (?:the|your|my)\s+(?:(?:original|previous)\s+)?)?"
_ASKED = (
    r"\s+(?:to|for|of)\s+(?:(?:the|your|this|that)\s+)?"
    r"(?:(?:given|original|same|new|above|user's)\s+)?"
    r"(?:instruction|question|request|prompt|query|task|problem)s?(?:\s+(?:above|given))?"
)


def _opening(noun: str) -> re.Pattern[str]:
    """An opening that speaks of the text itself: up to a colon, or a whole first line."""
    said = (
        rf"(?:(?:an?|the|my|your|our)\s+)?[*_]{{0,3}}{_NEW}{_VERSION}{noun}[*_]{{0,3}}(?:{_ASKED})?"
    )
    more = r"(?!\s+(?:to|for|from)\s)(?:[^:.\n]|\.(?=\S)){0,200}?:"
    line = r"[.!]?[*_]{0,3}(?=\n|\Z)"
    return re.compile(
        rf"[\s#>*_]{{0,12}}(?:{_SURE}{_HERE}{said}(?:{more}|{line})|{_SURE}{said}\s*:)[*_]{{0,3}}\s*"
        rf"|\s*#+\s*[*_]{{0,3}}{said}[*_]{{0,3}}(?:\n|\Z)\s*",
        re.I,
    )


_ANSWER = _opening("(?:answer|response|reply|instruction)")
_OPENINGS: dict[Part, re.Pattern[str]] = {
    "new instruction": _opening("(?:instruction|prompt)"),
    "new answer": _ANSWER,
    "better answer": _ANSWER,
}
_CANNOT = (
    r"(?:can't|cannot|can not|won't|will not|(?:am|'m) (?:unable|not able) to|must decline to)\s+"
)
_ASSIST = (
    r"(?:assist|help(?=\s+(?:you|with)\b|\W*\Z)|fulfil|comply|provide|generate|create|write|produce"
    r"|complete|answer|respond|rewrite|continue|do (?:that|this|so)|engage|discuss|support|process)"
)
_REFUSAL = re.compile(
    r"\W{0,9}(?:(?:i'm|i am)\s+(?:\w+\s+)?sorry|sorry|(?:i|my)\s+apologi[sz]e|(?:my )?apologies"
    r"|unfortunately)?[,.;:\s]{0,9}(?:but\s+)?(?:as an ai\b[^.,\n]{0,60},?\s*)?(?:but\s+)?i\s*"
    rf"{_CANNOT}(?:\w+ly\s+)?{_ASSIST}|\W{{0,9}}as an ai\b[^.\n]{{0,80}}?{_CANNOT}",
    re.I,
)
_REFUSED = re.compile(
    r"\b(?:request|instruction|question|task|prompt|content|as an ai|with (?:that|this|it))\b"
    r"|(?:help|assist)\W*\Z",
    re.I,
)


def strip_boilerplate(text: str) -> tuple[str, bool]:
    """An answer without an opening about the answer itself, and whether there was one.

    >>> strip_boilerplate("Here is a new and complete answer: Bees make honey.")
    ('Bees make honey.', True)
    """
    return _strip(text, _ANSWER)


def _strip(text: str, opening: re.Pattern[str]) -> tuple[str, bool]:
    found = opening.match(text)
    return (text[found.end() :], True) if found else (text, False)


def refuses(text: str) -> bool:
    """Whether a text opens as a refusal to do what the teacher was asked."""
    return bool(_REFUSAL.match(text.replace("’", "'")))  # noqa: RUF001


def is_refusal(part: str) -> bool:
    """Whether a part is nothing but a short refusal."""
    return len(part) < 300 and refuses(part) and bool(_REFUSED.search(part))
