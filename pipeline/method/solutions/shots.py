"""The shots of a many-shot prompt: drawn by a seed, nested, in one fixed order. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shot:
    """A problem that stands before the question, with its solution where it shows one."""

    id: str
    question: str
    solution: str | None = None


def draw(shots: Iterable[Shot], number: int, *, seed: int) -> list[Shot]:
    """At most `number` shots, each question once; a larger draw begins with every smaller one.

    A shot's place goes by a hash of seed and id, so that other candidates do not move it.

    >>> every = [Shot(str(n), f"q{n}") for n in range(9)]
    >>> draw(every, 3, seed=1) == draw(reversed(every), 5, seed=1)[:3]
    True
    """
    by_question: dict[str, Shot] = {}
    for shot in sorted(shots, key=lambda shot: _place(shot.id, seed)):
        by_question.setdefault(shot.question, shot)
    return list(by_question.values())[:number]


def _place(id: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{id}".encode("utf-8", "replace")).digest()
