"""Texts -> token ids, many at once and without what transformers gives beside them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from .forward.packing import Ids

Key = TypeVar("Key")


def backend_of(tokenizer: Any) -> Any:
    """The tokenizer below transformers' own, where transformers adds nothing to its ids."""
    from transformers import TokenizersBackend

    plain = getattr(type(tokenizer), "_encode_plus", None) is TokenizersBackend._encode_plus
    return tokenizer.backend_tokenizer if plain else None


def encode_fast(
    backend: Any, texts: list[str], *, add_special_tokens: bool, split_special_tokens: bool
) -> list[list[int]]:
    """The same ids as by transformers, without the places of tokens in the text."""
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = split_special_tokens
    found = backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
    return [encoding.ids for encoding in found]


def encode_distinct(
    texts: Iterable[str], tokenise: Callable[[list[str]], list[list[int]]]
) -> Mapping[str, list[int]]:
    """The tokens of every distinct text."""
    ordered = sorted(texts)
    return dict(zip(ordered, tokenise(ordered), strict=True))


def array(ids: list[int]) -> Ids:
    """Ids as spans hold them."""
    return np.array(ids, dtype=np.int32)


def arrays(ids: Mapping[Key, list[int]]) -> dict[Key, Ids]:
    """The ids of each key as spans hold them."""
    return {key: array(found) for key, found in ids.items()}
