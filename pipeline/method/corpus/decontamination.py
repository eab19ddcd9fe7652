"""Whether a text repeats n words in a row of an evaluation set."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .ngrams import Hashes, hashes_of, ngrams, words

SHORTEST = 8
"""Evaluation texts of fewer words are left out: they stand in too many texts by chance.

Brown et al. (2020, appendix C) never compare fewer than 8 words, nor more than 13.
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """Words in a row that an evaluation text has too: its set, and its place there."""

    source: str
    place: str
    words: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why a row is rejected."""
        return f'contaminated: {len(self.words)} words of {self.place}: "{" ".join(self.words)}"'


@dataclass(frozen=True, slots=True)
class _Grams:
    """All evaluation n-grams of one length: hashes, sorted, and where each first stands."""

    hashes: Hashes
    texts: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]


class EvaluationIndex:
    """The n-grams of evaluation texts (set, place, text). One of fewer than n words counts whole.

    Keeps 16 bytes for each n-gram and the normalised texts, for an exact check of each hash hit.
    """

    def __init__(self, texts: Iterable[tuple[str, str, str]], *, n: int = 13) -> None:
        self.n = n
        self.shortest = min(n, SHORTEST)
        self.too_short = 0
        self._texts: list[tuple[str, str, str]] = []
        found: dict[int, list[_Grams]] = {}
        for number, size, hashes in self._hashed(texts):
            own = np.full(len(hashes), number, np.int32)
            offsets = np.arange(len(hashes), dtype=np.int32)
            found.setdefault(size, []).append(_Grams(hashes, own, offsets))
        self._grams = {size: _first_of_each(parts) for size, parts in found.items()}

    def __len__(self) -> int:
        """The distinct evaluation texts that are compared with."""
        return len(self._texts)

    def _hashed(self, texts: Iterable[tuple[str, str, str]]) -> Iterator[tuple[int, int, Hashes]]:
        """Each distinct text's number, the length of its n-grams and their hashes."""
        seen: set[str] = set()
        for source, place, text in texts:
            found = words(text)
            joined = " ".join(found)
            if len(found) < self.shortest:
                self.too_short += 1
            elif joined not in seen:
                seen.add(joined)
                size = min(self.n, len(found))
                yield len(self._texts), size, ngrams(hashes_of(found), [size])[size]
                self._texts.append((source, place, joined))

    def find(self, text: str) -> Hit | None:
        """The first n words in a row of an evaluation text, else a whole shorter one."""
        found = words(text)
        for size, wanted in reversed(ngrams(hashes_of(found), self._grams).items()):
            grams = self._grams[size]
            at = np.minimum(grams.hashes.searchsorted(wanted), len(grams.hashes) - 1)
            for begin in (grams.hashes[at] == wanted).nonzero()[0]:
                hit = self._hit(grams, at[begin], tuple(found[begin : begin + size]))
                if hit is not None:
                    return hit
        return None

    def _hit(self, grams: _Grams, place: int, found: tuple[str, ...]) -> Hit | None:
        """The evaluation text's own words, if they are these: equal hashes do not prove it."""
        source, where, joined = self._texts[grams.texts[place]]
        offset = grams.offsets[place]
        same = tuple(joined.split(" ")[offset : offset + len(found)]) == found
        return Hit(source, where, found) if same else None


def _first_of_each(parts: list[_Grams]) -> _Grams:
    hashes, first = np.unique(np.concatenate([part.hashes for part in parts]), return_index=True)
    texts = np.concatenate([part.texts for part in parts])[first]
    return _Grams(hashes, texts, np.concatenate([part.offsets for part in parts])[first])
