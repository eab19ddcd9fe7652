"""Rows in memory as data: a list of dicts, or a `datasets.Dataset`."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ..errors import UsageError


class InlineData(str):
    """What rows in memory are called, and the rows; a str, as it stands where DATA's name does."""

    rows: Sequence[Any]

    @classmethod
    def of(cls, rows: Any) -> "InlineData":
        """UsageError for what is neither a list nor a data set."""
        if not isinstance(rows, list | tuple) and not hasattr(rows, "column_names"):
            kind = type(rows).__name__
            raise UsageError(
                f"data is a path, a hub id, a datasets.Dataset or a list of dicts, not {kind}"
            )
        data = cls(f"{len(rows)} rows in memory")
        data.rows = rows
        return data

    def fingerprint(self) -> str:
        """SHA-256 over the rows as JSON Lines."""
        digest = hashlib.sha256()
        for values in self.rows:
            line = json.dumps(values, ensure_ascii=False, default=repr) + "\n"
            digest.update(line.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()
