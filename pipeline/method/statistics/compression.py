"""Nats of documents -> bits per character and per byte of a corpus, with intervals. Pure.

BPC = -log2 p(X) / T = nats / (ln 2 * T), T the characters of the text: one ratio of sums over all
documents, never a mean over them (arXiv 2404.09937).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .intervals import ratio_interval

Bounds = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Document:
    """What is known of one text; `nats` of its scored tokens, None where there are none."""

    characters: int
    bytes: int
    tokens: int
    nats: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """A corpus under one student; the bounds are those of a 95 % bootstrap over documents."""

    documents: int
    characters: int
    bytes: int
    tokens: int
    nats: float
    bits_per_character: float
    bits_per_byte: float
    bits_per_character_interval: Bounds
    bits_per_byte_interval: Bounds


def bits_per(nats: float, units: int) -> float:
    """Bits a unit of text.

    >>> bits_per(math.log(2) * 6, 3)
    2.0
    """
    return nats / (math.log(2) * units)


def bits_per_character(nlls: Sequence[float], tokens: Sequence[int], characters: int) -> float:
    """Bits a character of texts whose mean NLLs (nats a token) are known: scores as stored.

    >>> round(bits_per_character([math.log(2), math.log(4)], [3, 1], 5), 12)
    1.0
    """
    return bits_per(math.fsum(n * t for n, t in zip(nlls, tokens, strict=True)), characters)


def compression(documents: Sequence[Document]) -> Compression:
    """The sums over the documents that have nats, at least one, and their ratios."""
    scored = [document for document in documents if document.nats is not None]
    bits = [(document.nats or 0.0) / math.log(2) for document in scored]
    characters = [document.characters for document in scored]
    sizes = [document.bytes for document in scored]
    nats = math.fsum(document.nats or 0.0 for document in scored)
    return Compression(
        documents=len(scored),
        characters=sum(characters),
        bytes=sum(sizes),
        tokens=sum(document.tokens for document in scored),
        nats=nats,
        bits_per_character=bits_per(nats, sum(characters)),
        bits_per_byte=bits_per(nats, sum(sizes)),
        bits_per_character_interval=ratio_interval(bits, characters),
        bits_per_byte_interval=ratio_interval(bits, sizes),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """Bits a character of the student minus those of the base, on the same documents."""

    bits_per_character: float
    interval: Bounds
    documents: int


def difference(student: Sequence[Document], base: Sequence[Document]) -> Difference:
    """Paired by document: both sums go over the same resampled documents."""
    pairs = [(a, a.nats - b.nats) for a, b in zip(student, base, strict=True)
             if a.nats is not None and b.nats is not None]  # fmt: skip
    bits = [nats / math.log(2) for _, nats in pairs]
    characters = [document.characters for document, _ in pairs]
    return Difference(
        bits_per(math.fsum(nats for _, nats in pairs), sum(characters)),
        ratio_interval(bits, characters),
        len(pairs),
    )
