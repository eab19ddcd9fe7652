"""A multimap of integers that grows by appending: 16 bytes an entry once merged."""

from typing import Any

MERGED = 1 << 15  # entries that wait in a dict before they go to the arrays


class Multimap:
    """Keys below 2^63, each with the integers that were added for it."""

    def __init__(self) -> None:
        import numpy

        self._numpy: Any = numpy
        self._keys = numpy.empty(0, numpy.int64)  # sorted; equal keys in the order of arrival
        self._values = numpy.empty(0, numpy.int64)
        self._latest: dict[int, list[int]] = {}

    def add(self, key: int, value: int) -> None:
        """Add one more value to a key."""
        self._latest.setdefault(key, []).append(value)
        if len(self._latest) >= MERGED:
            self._merge()

    def get(self, key: int) -> list[int]:
        """Return all values of a key, oldest first."""
        begin = self._keys.searchsorted(key, "left")
        end = self._keys.searchsorted(key, "right")
        older: list[int] = self._values[begin:end].tolist()
        return [*older, *self._latest.get(key, ())]

    def _merge(self) -> None:
        pairs = [(key, value) for key, values in self._latest.items() for value in values]
        more = self._numpy.array(pairs, self._numpy.int64)
        more = more[more[:, 0].argsort(kind="stable")]
        where = self._keys.searchsorted(more[:, 0], "right")
        # One array after the other, so that only one of the two is there twice for a moment.
        self._values = self._numpy.insert(self._values, where, more[:, 1])
        self._keys = self._numpy.insert(self._keys, where, more[:, 0])
        self._latest.clear()
