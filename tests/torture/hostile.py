"""Values, JSON and bytes that nobody expects, drawn from one seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

WORDS = (
    "", " ", "0", "-1", "1", "7", "0.5", "nan", "inf", "-inf", "1e400", "1e-320", "200%", "0%",
    "18446744073709551616", "9" * 5000, "x" * 300, "a\x1b]0;owned\x07b", "\u202e\u2066",
    "bad\udcff", "auto", "cuda:99", "meta", "mps", "[", '"', "{", "a,b", "0/1", "9/3", "http://",
    "http://[::1", "ftp://user:S3cret@host/x", "s3://", "://", "~nobody/x", "owner/name", "-", "--",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 0.5, 2**64, 10**400, float("nan"), float("inf"), "", " ", "text", "7",
    "\ud800", "\0", "\x1b]0;owned\x07\x9b31m", "\u202e", "x" * 5000, "../../etc/passwd",
    "/etc/passwd", "[", "{{ 1/0 }}", [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}},
)  # fmt: skip
DEEP = "@@deep@@"
"""Stands for a value that is nested deeper than a parser's stack."""


def changed(value: Any, moments: random.Random) -> Any:
    """The same JSON value with one place of it replaced, left out or renamed."""
    value = json.loads(json.dumps(value))
    holder, key = moments.choice([*_places(value)])
    kind = moments.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(moments.choice(VALUES))[:300]] = holder.pop(key)
    else:
        holder[key] = DEEP if kind == 2 else moments.choice(VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(items):
        yield value, key
        if isinstance(part, dict | list):
            yield from _places(part)


def as_json(value: Any) -> bytes:
    """JSON with NaN, lone surrogates escaped, and deep places as deep as it says."""
    return json.dumps(value).replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000).encode()


def broken(data: bytes, moments: random.Random) -> bytes:
    """The bytes cut, or with some of them replaced, repeated or put in."""
    begin, end = sorted(moments.randrange(len(data) + 1) for _ in range(2))
    middle = moments.choice((b"", b"\0", b"\xff\xfe", data[begin:end] * 2, moments.randbytes(9)))
    return data[:begin] + middle + (data[end:] if moments.random() < 0.8 else b"")
