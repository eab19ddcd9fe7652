"""The words of a text as far as they count when texts are compared, and hashes of n-grams."""

import unicodedata
from collections.abc import Collection
from functools import cache, lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

OPERATORS = "+-*/%=<>^|&~"
Hashes = npt.NDArray[np.uint64]

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that every place of an n-gram counts
_ALONE = ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")


class _Table(dict[int, str]):
    """What becomes of a character: letters, marks and digits stay, the rest parts words.

    A Chinese or Japanese character is a word of its own: there, no spaces tell words apart.
    """

    def __init__(self, symbols: str) -> None:
        super().__init__({ord(symbol): f" {symbol} " for symbol in symbols})

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = unicodedata.category(character)[0] in "LMN"
        alone = kept and unicodedata.name(character, "").startswith(_ALONE)
        self[code] = f" {character} " if alone else character if kept else " "
        return self[code]


_table = cache(_Table)


def words(text: str, *, symbols: str = "") -> list[str]:
    """Words without case and punctuation (Unicode NFKC, casefolded); `symbols` are words too.

    >>> words("It's 2+2: naïve!")
    ['it', 's', '2', '2', 'naïve']
    >>> words("2+2", symbols=OPERATORS)
    ['2', '+', '2']
    """
    return unicodedata.normalize("NFKC", text).casefold().translate(_table(symbols)).split()


@lru_cache(maxsize=1 << 17)
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest())


def hashes_of(found: list[str]) -> Hashes:
    """The 64-bit hash of each word, the same in every process [N]."""
    return np.array([_hash(word) for word in found], dtype=np.uint64)


def ngrams(hashes: Hashes, sizes: Collection[int]) -> dict[int, Hashes]:
    """The 64-bit hash of each n words in a row, n of `sizes`: a polynomial modulo 2**64."""
    found = {}
    total = np.zeros(len(hashes), np.uint64)
    for size in range(1, min(max(sizes, default=0), len(hashes)) + 1):
        total = total[: len(hashes) - size + 1] * BASE + hashes[size - 1 :]
        if size in sizes:
            found[size] = total
    return found
