"""JSON of strangers, or of a disk that may have changed it: bounded depth, one kind of error."""

import json
from pathlib import Path
from typing import Any

from ..errors import CurateError

DEEPEST = 64
"""Levels of lists and objects."""
TOO_DEEP = f"nested deeper than {DEEPEST} levels"


def parse_json(text: str | bytes) -> Any:
    """The value. ValueError where it is malformed, no UTF-8, or nested too deep.

    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if is_too_deep(value):
        raise ValueError(TOO_DEEP)
    return value


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects hold one another in more than `DEEPEST` levels."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list | tuple)]:
        depth += 1
        if depth > DEEPEST:
            return True
        level = [
            part for item in level for part in (item.values() if isinstance(item, dict) else item)
        ]
    return False


def read_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none, or a damaged one.

    Raises CurateError where it may not be read.
    """
    try:
        found = parse_json(path.read_bytes())
    except PermissionError as error:
        raise CurateError(f"cannot read {path}: {error.strerror}") from None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
