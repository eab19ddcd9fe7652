"""Places in a reply -> the answers that stand there, by kind: letters, words, numbers, texts. Pure.

Each reader takes what begins at a place and returns the distinct answers there: none, one, several.
"""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

_QUOTES = " \"'\u201c\u201d\u2018\u2019"
_WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf)|boxed|fbox)\s*\{([^{}]*)\}")
_MARKUP = re.compile(
    r"(?<![\w)*])\*+(?=[^\s*])|(?<=[^\s*])\*+(?![\w(*])|`+|\\?\$|\\[()\[\]!;]|(?<!\w)_+|_+(?!\w)"
)
_FILLERS = re.compile(
    r"(?:(?:therefore|thus|hence|so|then|clearly|simply|definitely|probably|(?:most\s+)?likely|indeed"
    r"|still|now|also|that|wait|just|exactly|actually|option|choice|letter|answer|either|both)\b|[\s:=,\u2013\u2014])*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?<=[\w)\]}\"'%\u2019\u201d>])[.!?](?=\s|$)(?!\s+(?:or|alternatively|maybe|perhaps|possibly)\b)",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"[;]|,?\s+(?:because|since|as|given|which|while|whereas|rather\s+than|instead\s+of|meaning|so)\b"
    r"|,\s+(?:and\s+)?not\b|\s[\u2014\u2013-]\s(?![\d(\\])|\s\((?![A-Za-z]\))",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"[\"'\u2019\u201d)\]]*\s*(?:$|[.,;:!?](?!\d)|[\u2014\u2013-]\s|\((?![A-Za-z]\))"
    r"|(?:because|since|as|or|and)\b)",
    re.IGNORECASE,
)
_JOIN = re.compile(
    r"[\s\"'\u2019\u201d)\].,;]*(?:\b(?:or|and|alternatively|maybe|perhaps|possibly)\b|[/|&])\s*",
    re.IGNORECASE,
)


def plain(text: str) -> str:
    r"""The text without markup around words: bold, code, mathematics, `\text{}`.

    >>> plain(r"**$\boxed{\text{Yes}}$**")
    'Yes'
    """
    for _ in range(3):
        text = _WRAPPED.sub(r"\1", text)
    return _MARKUP.sub("", text).strip()


def clause(text: str) -> str:
    """The first line up to its first sentence's end, or to where reasons begin."""
    line = _sentence(text)
    reason = _REASON.search(line)
    return line[: reason.start()] if reason else line


def _sentence(text: str) -> str:
    line = text.split("\n", 1)[0]
    end = _SENTENCE_END.search(line)
    return line[: end.start()] if end else line


def _begin(text: str) -> str:
    """Without fillers in front and quotes around."""
    return text[_match_end(_FILLERS, text) :].lstrip(_QUOTES)


def _match_end(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    return found.end() if found else 0


def _distinct(answers: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(answers))


# --- letters --------------------------------------------------------------------------------------

_LETTER = re.compile(
    r"\(\s*([A-Za-z])\s*\)|\[\s*([A-Za-z])\s*\]|([A-Za-z])\)|([A-Z])(?=\s*$|[.:,;\"'\u2019\u201d]|\s+(?:or|and)\b|\s[\u2014\u2013-]\s)"
    r"|([a-z])(?=[\"'\u2019\u201d]*\s*[.!]?\s*$)"
)
_OTHER_LETTER = re.compile(
    r"\(([A-Z])\)|(?:\b(?:or|and|alternatively|maybe|perhaps|possibly)\b|[/,&|])\s*(?:option\s+)?\(?([A-Z])\)?"
    r"(?=\W*$|\s*[,.;)]|\s+(?:or|and)\b)"
)
_SPACES = re.compile(r"\s+")


def read_choice(text: str, options: Mapping[str, str]) -> list[str]:
    """Letters of options, named by themselves or by an option's text.

    >>> options = {"A": "a kite", "B": "a line"}
    >>> read_choice("(B) a line.", options), read_choice("A or B", options)
    (['B'], ['A', 'B'])
    >>> read_choice("a kite, as it flies", options), read_choice("a kite string", options)
    (['A'], [])
    """
    begun = _begin(plain(text))
    found = _LETTER.match(begun)
    if found is None:
        return _named_by_letter_and_text(begun, options) or _named_by_text(begun, options)
    letter = next(filter(None, found.groups())).upper()
    rest = begun[found.end() :]
    texts = _texts_at(rest.lstrip(" .:,-\u2013\u2014)"), options)
    if texts and letter not in texts:
        return _distinct([letter, *texts])
    stated = clause(begun)[found.end() :]
    others = (next(filter(None, m.groups())) for m in _OTHER_LETTER.finditer(stated))
    return _distinct([letter, *others])


def _named_by_letter_and_text(text: str, options: Mapping[str, str]) -> list[str]:
    """`C Ambiguous`: a bare letter with its own option's text behind it."""
    letter, _, rest = text.partition(" ")
    return [letter] if letter in options and letter in _texts_at(rest.strip(), options) else []


def _named_by_text(text: str, options: Mapping[str, str]) -> list[str]:
    letters = _texts_at(text, options)
    if not letters:
        return []
    rest = _without(text, options[letters[0]])
    joined = _JOIN.match(rest)
    if joined is None or not rest.strip():
        return letters
    more = read_choice(rest[joined.end() :], options) if joined.end() < len(rest) else []
    return _distinct([*letters, *(more or [rest[joined.end() :].strip()])])


def _texts_at(text: str, options: Mapping[str, str]) -> list[str]:
    """The letters of the longest option text that the text opens with, up to a clause's end."""
    fitting = [letter for letter, option in options.items() if _opens_with(text, option)]
    longest = max((len(options[letter]) for letter in fitting), default=0)
    return [letter for letter in fitting if len(options[letter]) == longest]


def _opens_with(text: str, option: str) -> bool:
    wanted, given = _folded(option), _folded(text)
    return bool(wanted) and given.startswith(wanted) and bool(_ENDS.match(given[len(wanted) :]))


def _without(text: str, option: str) -> str:
    return _SPACES.sub(" ", text).lstrip(_QUOTES)[len(_folded(option)) :]


def _folded(text: str) -> str:
    """In small letters, without quotes around and a full stop behind."""
    return _SPACES.sub(" ", text).casefold().lstrip(_QUOTES).rstrip(_QUOTES + ".")


# --- words ----------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")


def read_word(text: str, vocabulary: Iterable[str]) -> list[str]:
    """Words of a closed vocabulary (in small letters); a lone word outside of it is an answer too.

    >>> read_word("No, it is not.", ("yes", "no")), read_word("not valid", ("valid", "invalid"))
    (['no'], [])
    """
    begun = _begin(plain(text)).casefold()
    words = set(vocabulary)
    first = _WORD.match(begun)
    if first is None or not _ENDS.match(begun[first.end() :]):
        return []
    sentence = _sentence(begun)
    if first[0] not in words:
        return [first[0]] if sentence.strip(" \"'\u2019\u201d") == first[0] else []
    stated = sentence if _JOIN.match(begun[first.end() :]) else clause(begun)
    return _distinct([first[0], *(word for word in _WORD.findall(stated) if word in words)])


# --- numbers --------------------------------------------------------------------------------------

_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,|[\u00a0\u202f])\d{3})+(?!\d)|\d+)(?:\.\d+)?"
_NUMBER = re.compile(rf"([-+\u2212\u2013]?)\s*[€£¥]?\s*({_DIGITS})(?:[eE]([-+]?\d{{1,3}}))?")
_FRACTION = re.compile(r"([-+\u2212\u2013]?)\s*\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_OVER = re.compile(rf"\s*/\s*({_DIGITS})(?![\w/.])")
_OPERATION = re.compile(
    r"\s*(?:[-+*/\u00d7\u00b7\u00f7^\u2212\u2013!<>]|\\times|\\cdot|\\div|to\b|out\s+of\b)\s*[\d(\\]|\s*[!^]"
)
_SCALE = re.compile(
    r"\s*(?:hundred|thousand|million|billion|trillion|dozen|pairs?|[kKmM]\b)", re.IGNORECASE
)
_STATED = re.compile(r"(?:there\s+(?:are|is|were)|equal\s+to|equals)\s+", re.IGNORECASE)
_OTHER_NUMBER = re.compile(rf"(?<![\w^.{{])[-\u2212]?{_DIGITS}")
_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: number for number, word in enumerate(_SMALL)} | {
    ten + unit: 20 + 10 * i + j
    for i, ten in enumerate(_TENS)
    for j, unit in enumerate(["", *(f"-{word}" for word in _SMALL[1:10])])
}


def read_number(text: str) -> list[str]:
    """Numbers, as exact fractions in lowest terms; an expression that is not worked out is none.

    >>> read_number("$-11{,}520.0$."), read_number("5 + 3 = 8"), read_number("8 or 9")
    (['-11520'], ['8'], ['8', '9'])
    >>> read_number("1/2"), read_number("2 million"), read_number("3 * 4"), read_number("about 8")
    (['1/2'], [], [], [])
    """
    stated = clause(plain(text)).rpartition("=")[2]
    begun = _begin(stated)
    begun = begun[_match_end(_STATED, begun) :]
    found = _leading_number(begun)
    if found is None:
        return []
    value, rest = found
    if _OPERATION.match(rest) or _SCALE.match(rest) or re.match(r"[^\W_]", rest):
        return []
    others = [number for m in _OTHER_NUMBER.finditer(rest) if (number := _value(m[0])) is not None]
    joined = _JOIN.match(rest)
    word = _word_number(rest[joined.end() :]) if joined else None
    return _distinct(map(str, [value, *others, *([word[0]] if word else [])]))


def _leading_number(text: str) -> tuple[Fraction, str] | None:
    """The number that a text opens with, and what follows it."""
    if fraction := _FRACTION.match(text):
        if not int(fraction[3]):
            return None
        value = Fraction(int(fraction[2]), int(fraction[3]))
        return -value if fraction[1] in ("-", "\u2212", "\u2013") else value, text[fraction.end() :]
    number = _NUMBER.match(text)
    if number is None:
        return _word_number(text)
    value = _value(number[2]) * Fraction(10) ** int(number[3] or 0)
    value = -value if number[1] in ("-", "\u2212", "\u2013") else value
    over = _OVER.match(text, number.end())
    if over is not None and (below := _value(over[1])):
        return value / below, text[over.end() :]
    return value, text[number.end() :]


def _word_number(text: str) -> tuple[Fraction, str] | None:
    word = _WORD.match(text)
    known = _WORDS.get(word[0].casefold()) if word else None
    return None if word is None or known is None else (Fraction(known), text[word.end() :])


def _value(digits: str) -> Fraction:
    return Fraction(re.sub(r"[^\d.\-\u2212]", "", digits).replace("\u2212", "-"))


def number_of(text: str) -> str | None:
    """The number that a given answer is as a whole, None if it is none.

    >>> number_of("1,234"), number_of("(B)"), number_of("3 apples")
    ('1234', None, None)
    """
    found = _leading_number(plain(text))
    return str(found[0]) if found and found[1].strip() in ("", "%", ".") else None


# --- texts ----------------------------------------------------------------------------------------

_BRACKETS = re.compile(r"[\s()\[\]{}<>]+")
_BECAUSE = re.compile(r",?\s+(?:because|since)\b", re.IGNORECASE)
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|St|No|vs|etc|[A-Z])$")
_QUOTED = re.compile(r"[\"\u201c]([^\"\u201c\u201d]+)[\"\u201d](?=[.,;!]?(?:\s|$))(?!\s+or\b)")
_SEPARATOR = re.compile(r"[,;]\s+|\s*(?:->|→|>)\s*|\s+")


def read_text(text: str, wanted: str) -> list[str]:
    """The wanted text where a whole line, sentence or quotation is it; else what stands there.

    >>> read_text("apple, banana", "apple banana"), read_text("] ) }", "] )")
    (['apple banana'], ['] ) }'])
    """
    line = text.split("\n", 1)[0]
    given = plain(line)
    if any(same_text(part, wanted) for part in _parts(given, wanted)):
        return [wanted]
    pieces = re.split(r"\bor\b", given)
    if len(pieces) > 1 and any(
        same_text(part, wanted) for p in pieces for part in _parts(p, wanted)
    ):
        return _distinct(piece.strip(" .,") for piece in pieces)
    return [given] if given else []


def _parts(given: str, wanted: str) -> list[str]:
    """What may be the whole answer: the line, and for words its first sentence, quote or clause."""
    parts = [given, given.rstrip().rstrip(".!")]
    if _BRACKETS.fullmatch(wanted):
        return parts
    sentence = _sentence(given)
    if not _ABBREVIATION.search(sentence):
        parts.append(sentence)
    parts.append(_BECAUSE.split(given)[0])
    if quoted := _QUOTED.match(given):
        parts.append(quoted[1])
    return parts


def same_text(given: str, wanted: str) -> bool:
    """Equal but for case, quotes, and how the words of a list are separated."""
    if _BRACKETS.fullmatch(wanted):
        return "".join(given.strip(_QUOTES).split()) == "".join(wanted.split())
    first, second = (
        _SEPARATOR.sub(" ", text.casefold().strip(_QUOTES)).strip() for text in (given, wanted)
    )
    return first == second
