"""Values of a row -> texts: missing values, whole characters, JSON, content ids."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from ...base.foreign_json import DEEPEST, TOO_DEEP, is_too_deep
from ...base.foreign_text import whole
from ..ingest import Unusable


def present(values: Mapping[str, Any], name: str) -> Any:
    """A value; None where it is missing, as null, NaN and numbers beyond a float are."""
    value = values.get(name)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def required_text(values: Mapping[str, Any], name: str) -> str:
    """A text, or a number as text. Unusable where it is missing or something else."""
    text = optional_text(values, name)
    if text is None:
        raise Unusable(f"no {name!r}")
    return text


def optional_text(values: Mapping[str, Any], name: str) -> str | None:
    """The same; None where it is missing."""
    value = present(values, name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Unusable(f"{name!r} is not text but {type(value).__name__}")


def row_id(values: Mapping[str, Any]) -> str | None:
    """The id that a row has, as text; None where it has none."""
    id = present(values, "id")
    return None if id is None or id == "" else whole(str(id))


def whole_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with whole characters only, in all their texts and names."""
    text = json_text(values)
    mended = whole(text)
    return values if mended == text else json.loads(mended)


def json_text(values: Mapping[str, Any]) -> str:
    """Values as a JSON object; what JSON cannot say becomes text. Unusable where it is too deep."""
    try:
        text = json.dumps(values, default=str, ensure_ascii=False)
    except RecursionError:
        raise Unusable(TOO_DEEP) from None
    if text.count("[") + text.count("{") > DEEPEST and is_too_deep(values):
        raise Unusable(TOO_DEEP)
    return text


def content_id(texts: Mapping[str, Any]) -> str:
    """The first 24 hex digits of the SHA-256 of a record's texts.

    >>> content_id({"instruction": "Add", "input": "", "output": "3"})
    '4187e16a4c4c19a3f43ea3f1'
    """
    parts = [texts["instruction"], texts.get("input") or "", texts["output"]]
    if texts.get("system"):
        parts.append(texts["system"])
    for turn in texts.get("history") or ():
        parts += [turn["role"], turn["content"]]
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:24]
