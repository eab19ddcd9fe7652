"""Near-duplicate texts: MinHash finds who may be alike, the exact Jaccard similarity decides."""

from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import CurateError
from .ngrams import BASE, OPERATORS, Hashes, hashes_of, ngrams, words

SHINGLE = 3
"""Words in a row that are one member of a text's set."""
PERMUTATIONS = 128
FOUND = 0.995
"""At least this part of the pairs that are just at the threshold is found."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A text that was kept, and that others may repeat."""

    place: int
    id: str
    members: Hashes


class DuplicateFinder:
    """Says of each text which one before it, that was kept, it repeats.

    Two passes over the same texts in the same order: `note` each, then `judge` each. Whether a text
    is a duplicate depends on those before it alone. With a threshold: the Jaccard similarity of the
    sets of three words in a row (operators are words, punctuation is left out) reaches it. Without:
    all words are the same. Between the passes 8 bytes are kept for each text and band, 21 bands at
    0.8; in the second pass, besides, the shingles of those kept texts that share a band.
    """

    def __init__(self, threshold: float | None) -> None:
        self.threshold = threshold
        self.bands, self.rows = bands(threshold) if threshold is not None else (1, 1)
        self._weights: Hashes = np.cumprod(np.full(self.rows, BASE), dtype=np.uint64)
        self._numbers: Hashes = np.arange(self.bands, dtype=np.uint64)
        self._keys = array("Q")
        self._shared: npt.NDArray[np.bool_] | None = None
        self._kept: dict[int, list[_Kept]] = defaultdict(list)
        self._judged = 0

    def note(self, text: str) -> None:
        """The first pass."""
        self._keys.frombytes(self._keys_of(self._members(text)).tobytes())

    def judge(self, id: str, text: str) -> tuple[str, float] | None:
        """The second pass: the most similar text before this one, and how similar it is."""
        keys = np.frombuffer(self._keys, np.uint64).reshape(-1, self.bands)
        if self._shared is None:
            self._shared = _shared(keys)
        place, self._judged = self._judged, self._judged + 1
        common = keys[place][self._shared[place]].tolist()
        if not common:
            return None
        members = self._members(text)
        found = {one.place: one for key in common for one in self._kept.get(key, ())}
        alike = [(self._similarity(members, one.members), -one.place, one.id)
                 for one in found.values()]  # fmt: skip
        similarity, _, of = max(alike, default=(0.0, 0, ""))  # the first of equals
        if similarity >= (self.threshold or 1.0):
            return of, similarity
        if len(members):
            kept = _Kept(place, id, members)
            for key in common:
                self._kept[key].append(kept)
        return None

    def _members(self, text: str) -> Hashes:
        hashes = hashes_of(words(text, symbols=OPERATORS))
        if self.threshold is None or not len(hashes):
            return hashes
        (shingles,) = ngrams(hashes, [min(SHINGLE, len(hashes))]).values()
        return np.unique(shingles)

    def _keys_of(self, members: Hashes) -> Hashes:
        """What texts have in common that may be alike [bands]."""
        if self.threshold is None:
            (whole,) = ngrams(members, [len(members)]).values() if len(members) else (members,)
            return np.resize(whole, 1)
        signature = _signature(members)[: self.bands * self.rows].reshape(self.bands, self.rows)
        # With the band's number: equal values of two bands are nothing in common.
        values: Hashes = (signature * self._weights).sum(axis=1, dtype=np.uint64)  # modulo 2**64
        values += self._numbers
        return values

    def _similarity(self, a: Hashes, b: Hashes) -> float:
        if self.threshold is None:
            return float(np.array_equal(a, b))
        common = len(np.intersect1d(a, b, assume_unique=True))
        return common / (len(a) + len(b) - common)


def bands(threshold: float) -> tuple[int, int]:
    """How a signature is cut: (bands, rows), the most rows by which `FOUND` of the pairs are found.

    Two sets of similarity s agree in all rows of some band with probability 1 - (1 - s^rows)^bands.

    >>> bands(0.8)
    (21, 6)
    """
    for rows in range(PERMUTATIONS, 1, -1):
        number = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** number >= FOUND:
            return number, rows
    return PERMUTATIONS, 1


def _shared(keys: Hashes) -> npt.NDArray[np.bool_]:
    """Which keys are those of another text too [N, bands]."""
    shared = np.zeros(keys.shape, np.bool_)
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        same = np.diff(keys[order, band]) == 0
        shared[order[1:][same], band] = shared[order[:-1][same], band] = True
    return shared


@cache
def _minhash() -> Any:
    try:
        from datasketch import MinHash
    except ImportError:
        raise CurateError(
            "--dedup near needs datasketch, which is not installed: "
            'pip install "curate-reflection[dedup]", or use --dedup exact'
        ) from None
    return MinHash(PERMUTATIONS, seed=1, hashfunc=int, scheme="affine64")


def _signature(members: Hashes) -> Hashes:
    """The MinHash of a set [PERMUTATIONS]."""
    empty = _minhash().copy()
    empty.update_batch(members.tolist())
    signature: Hashes = empty.hashvalues
    return signature
