"""JSON text -> values. An object that names a key twice is no row: one of two values would be lost.

NaN, Infinity and numbers beyond a float are floats that are not finite, as Python writes them.
"""

import json
from typing import Any


class JsonDecoder:
    """Decodes value after value; `repeated` is a key that the last one has twice."""

    def __init__(self) -> None:
        self.repeated: str | None = None
        self._raw_decode = json.JSONDecoder(object_pairs_hook=self._object).raw_decode

    def decode(self, text: str, begin: int = 0) -> tuple[Any, int]:
        """The value that begins there, and where it ends; ValueError or RecursionError."""
        self.repeated = None
        return self._raw_decode(text, begin)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            self.repeated = next(name for name in names if names.count(name) > 1)
        return values
