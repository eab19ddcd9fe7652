"""ROUGE-L between short texts, and texts of which no two are too much alike.

ROUGE-L F1 = 2 LCS(a, b) / (|a| + |b|) over words (Lin 2004). It is the normalised Indel similarity
of the two sequences; each distinct word is one character, so that rapidfuzz compares strings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz import process
from rapidfuzz.distance import Indel

from .ngrams import words

THRESHOLD = 0.7
"""Texts whose ROUGE-L F1 is above this are too much alike (Wang et al. 2023)."""
_BLOCK = 128
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, slots=True)
class Alike:
    """The known text that another one is most like, and how much."""

    id: str
    rouge_l: float


class Alphabet(dict[str, str]):
    """A character for each distinct word; none of them a surrogate."""

    def __missing__(self, word: str) -> str:
        code = len(self) + 1
        self[word] = chr(code if code < _SURROGATES.start else code + len(_SURROGATES))
        return self[word]

    def spelled(self, text: str) -> str:
        """A text as a string with a character a word."""
        return "".join(self[word] for word in words(text))


def rouge_l(first: str, second: str) -> float:
    """ROUGE-L F1 over Unicode words, without case; 0 where one of the texts has none.

    >>> rouge_l("Give three tips.", "give three good tips")
    0.8571428571428572
    """
    alphabet = Alphabet()
    one, other = alphabet.spelled(first), alphabet.spelled(second)
    return Indel.normalized_similarity(one, other) if one and other else 0.0


class DistinctTexts:
    """Known texts, to each of which a further one is compared."""

    def __init__(self) -> None:
        self._alphabet = Alphabet()
        self._ids: list[str] = []
        self._spelled: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, texts: Iterable[tuple[str, str]]) -> None:
        """Further known texts, as (id, text)."""
        for id, text in texts:
            self._ids.append(id)
            self._spelled.append(self._alphabet.spelled(text))

    def judge(self, texts: Sequence[tuple[str, str]]) -> list[Alike | None]:
        """Which known text, or earlier one of these, each is too much like; None if none.

        An earlier one counts if it is like none itself. Nothing becomes known by this.
        """
        ids, spelled = list(self._ids), list(self._spelled)
        found: list[Alike | None] = []
        for begin in range(0, len(texts), _BLOCK):
            block = texts[begin : begin + _BLOCK]
            own = [self._alphabet.spelled(text) for _, text in block]
            alike = _nearest(own, ids, spelled)
            _compare_within(own, [id for id, _ in block], alike)
            found += alike
            new = [place for place, one in enumerate(alike) if one is None]
            ids += [block[place][0] for place in new]
            spelled += [own[place] for place in new]
        return found


def _similarities(texts: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.float64]:
    """Those above the threshold, else 0 or no more than it [texts, others]."""
    return process.cdist(
        texts,
        others,
        scorer=Indel.normalized_similarity,
        score_cutoff=THRESHOLD,
        dtype=np.float64,
        workers=-1,
    )


def _nearest(texts: Sequence[str], ids: Sequence[str], known: Sequence[str]) -> list[Alike | None]:
    if not known:
        return [None] * len(texts)
    similar = _similarities(texts, known)
    nearest = similar.argmax(axis=1)
    return [
        Alike(ids[place], float(row[place])) if row[place] > THRESHOLD else None
        for row, place in zip(similar, nearest, strict=True)
    ]


def _compare_within(texts: Sequence[str], ids: Sequence[str], alike: list[Alike | None]) -> None:
    """Note, in their order, which texts are like an earlier one that is like none."""
    similar = _similarities(texts, texts)
    for place in range(1, len(texts)):
        earlier = [n for n in range(place) if alike[n] is None and similar[place, n] > THRESHOLD]
        if alike[place] is None and earlier:
            nearest = max(earlier, key=lambda n: similar[place, n])
            alike[place] = Alike(ids[nearest], float(similar[place, nearest]))
