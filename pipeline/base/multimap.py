"""Where the entries of many keys are: 16 bytes each, but for the latest."""

from typing import Any

MERGED = 1 << 15  # entries that are held in a dict before they go to the arrays


class Places:
    """A multimap of integers below 2^63, grown by appending."""

    def __init__(self) -> None:
        import numpy

        self._numpy: Any = numpy
        self._keys = numpy.empty(0, numpy.int64)  # sorted; equal keys in the order of arrival
        self._places = numpy.empty(0, numpy.int64)
        self._latest: dict[int, int | tuple[int, ...]] = {}

    def add(self, key: int, place: int) -> None:
        """One more place of a key."""
        known = self._latest.get(key)
        if known is None:
            self._latest[key] = place
            if len(self._latest) >= MERGED:
                self._merge()
        else:
            self._latest[key] = (*(known if isinstance(known, tuple) else (known,)), place)

    def of(self, key: int) -> list[int]:
        """All places of a key, oldest first."""
        begin = self._keys.searchsorted(key, "left")
        end = self._keys.searchsorted(key, "right")
        latest = self._latest.get(key, ())
        older: list[int] = self._places[begin:end].tolist()
        return [*older, *(latest if isinstance(latest, tuple) else (latest,))]

    def _merge(self) -> None:
        pairs = [
            (key, place)
            for key, places in self._latest.items()
            for place in (places if isinstance(places, tuple) else (places,))
        ]
        more = self._numpy.array(pairs, self._numpy.int64)
        more = more[more[:, 0].argsort(kind="stable")]
        where = self._keys.searchsorted(more[:, 0], "right")
        # One after the other: only one of the two is there twice for a moment.
        self._places = self._numpy.insert(self._places, where, more[:, 1])
        self._keys = self._numpy.insert(self._keys, where, more[:, 0])
        self._latest.clear()
