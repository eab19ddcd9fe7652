"""Self-Instruct's new instructions (Wang et al. 2023, arXiv 2212.10560): shots, items, filters.

Unlike the released code, an item keeps its capitals.
"""

import random
import re
import string
from collections.abc import Sequence
from typing import Literal, TypeVar

from ..corpus.baseline_sampling import lot
from ..corpus.ngrams import words

ItemFault = Literal["too_short", "too_long", "keyword", "program", "first_character"]
SHOTS, MACHINE_SHOTS = 8, 2
FEWEST_WORDS, MOST_WORDS = 4, 150
_ITEM = re.compile(r"(?:\A\s*|\n)(\d+)\s?\. ")
_KEYWORDS = re.compile(
    r"\b(?:images?|graphs?|pictures?|files?|maps?|draw|plot|go to)\b", re.IGNORECASE
)
S = TypeVar("S")


def draw_shots(seeds: Sequence[S], made: Sequence[S], *, seed: int, request: str) -> list[S]:
    """Eight shots in random order: two of what was made, fewer while there are none; else seeds."""
    chance = random.Random(lot(seed, request))
    machine = chance.sample(made, min(MACHINE_SHOTS, len(made)))
    shots = [*chance.sample(seeds, SHOTS - len(machine)), *machine]
    chance.shuffle(shots)
    return shots


def numbered(instructions: Sequence[str]) -> str:
    """Instructions as a numbered list, each on one line without a final colon."""
    lines = (one_line(text).removesuffix(":") for text in instructions)
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def one_line(text: str) -> str:
    """A text with single spaces for white space."""
    return " ".join(text.split())


def read_items(reply: str, *, first: int = SHOTS + 1) -> list[str]:
    r"""The instructions of a reply that goes on with a list at number `first`.

    An item begins at a number with a full stop and a space. What stands before the first one is an
    item too, unless the list then begins.

    >>> read_items(" Write to NATO.\n10. Name three rivers in Asia.")
    ['Write to NATO.', 'Name three rivers in Asia.']
    >>> read_items("Sure, here they are:\n\n9. Write to NATO.")
    ['Write to NATO.']
    """
    before, *rest = _ITEM.split(reply)
    begins = bool(rest) and int(rest[0]) in (1, first)
    items = map(one_line, [*([] if begins else [before]), *rest[1::2]])
    return [item[0].upper() + item[1:] for item in items if item]


def item_fault(text: str, *, english: bool) -> ItemFault | None:
    """Which published filter leaves an instruction out; those of a language only for English."""
    number = len(text.split()) if english else len(words(text))
    if number < FEWEST_WORDS:
        return "too_short"
    if number > MOST_WORDS:
        return "too_long"
    if english and _KEYWORDS.search(text):
        return "keyword"
    if english and text.startswith("Write a program"):
        return "program"
    if text[0] in string.punctuation or (english and not text[0].isascii()):
        return "first_character"
    return None
