"""Texts -> token spans: the two ways of turning (prefix, target) into tokens (METHOD section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..config import TokenizationName
from ..errors import CurateError
from ..method.spans import Pair
from ..records import ScoreStatus
from .packing import Ids, Span


@dataclass(frozen=True, slots=True)
class SpanPair:
    """The two passes over one target; a pass without a scored token is None.

    `status` is what a finite score will have: `ok` or `truncated`; else why there is none.
    """

    conditional: Span | None
    unconditional: Span | None
    status: ScoreStatus
    num_tokens: int


class Tokenization:
    """Turns pairs into spans of at most `max_length` tokens."""

    def __init__(
        self, tokenizer: Any, *, name: TokenizationName, max_length: int, chat: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.max_length = max_length
        self.chat = chat
        self._opening = _opening_of(tokenizer)
        self.anchor = _anchor_of(tokenizer)
        self._one_at_a_time = Lock()  # a fast tokenizer must not be borrowed twice
        if name == "exact" and self.anchor is None:
            raise CurateError(
                "the student's tokenizer has neither a BOS nor an EOS token, so that exact "
                "tokenization has no anchor: use --tokenization reference"
            )

    @property
    def eos_id(self) -> int | None:
        """The end-of-sequence token."""
        eos = self.tokenizer.eos_token_id
        return None if eos is None else int(eos)

    def prefix_ids(self, text: str) -> list[int]:
        """A prompt's tokens, behind the special tokens that the tokenizer itself puts in front."""
        opening = [] if self.chat else self._opening
        return opening + self._ids([text], special=False)[0]

    def target_ids(self, text: str) -> list[int]:
        """A target's tokens, without special ones."""
        return self._ids([text], special=False)[0]

    def document_ids(self, text: str) -> list[int]:
        """A text's tokens by themselves; for `reference` with the tokenizer's special tokens."""
        return self._ids([text], special=self.name == "reference")[0]

    def gives_back(self, ids: list[int], text: str) -> bool:
        """Whether the tokens hold the whole text: none is unknown, and they decode to it.

        What the tokenizer itself puts around the text does not count.
        """
        if (unknown := self.tokenizer.unk_token_id) is not None and unknown in ids:
            return False
        decoded = self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text.removeprefix(" ") in decoded

    def header_ids(self, texts: Iterable[str]) -> list[Ids]:
        """The token openings that all prompts with one of these constant openings share."""
        found = []
        for text in texts:
            # How an opening's last token comes out depends on what follows it.
            probes = [self.prefix_ids(text + end) for end in ("Apple", "the", "7", "\n", "(é")]
            shared = 0
            while all(len(p) > shared and p[shared] == probes[0][shared] for p in probes):
                shared += 1
            if shared > 1:
                found.append(np.array(probes[0][:shared], dtype=np.int32))
        return found

    def text_span(self, text: str) -> Span | None:
        """A text behind the anchor, all its tokens among those that predict; None if it has none.

        What its last token predicts is of no matter.
        """
        opening = [] if self.anchor is None else [self.anchor]
        ids = self.target_ids(text)[: self.max_length - len(opening)]
        return _span([*opening, *ids, 0], len(opening) + 1) if ids else None

    def span_pairs(self, pairs: Sequence[Pair]) -> list[SpanPair]:
        """The spans of each pair; every distinct text is tokenised once."""
        if self.name == "reference":
            return self._reference(pairs)
        prefixes = self._encode({p.prefix for p in pairs}, special=False)
        targets = self._encode({p.target for p in pairs}, special=False)
        opening = [] if self.chat else self._opening
        return [self._exact(opening + prefixes[p.prefix], targets[p.target]) for p in pairs]

    def _exact(self, prefix: list[int], whole: list[int]) -> SpanPair:
        assert self.anchor is not None
        prefix = prefix or [self.anchor]
        target = whole[: max(self.max_length - len(prefix), 0)]
        if not target:
            return SpanPair(None, None, "overlong" if whole else "empty", 0)
        return SpanPair(
            _span(prefix + target, len(prefix)),
            _span([self.anchor, *target], 1),
            "ok" if len(target) == len(whole) else "truncated",
            len(target),
        )

    def _reference(self, pairs: Sequence[Pair]) -> list[SpanPair]:
        prefixes = self._encode({p.prefix for p in pairs}, special=not self.chat)
        targets = self._encode({p.target for p in pairs}, special=True)
        wholes = self._encode({p.prefix + p.target for p in pairs}, special=not self.chat)
        return [
            self._as_released(
                len(prefixes[p.prefix]), targets[p.target], wholes[p.prefix + p.target]
            )
            for p in pairs
        ]

    def _as_released(self, skipped: int, target: list[int], whole: list[int]) -> SpanPair:
        given = whole[: self.max_length]
        alone = target[: max(self.max_length - skipped + 1, 0)]
        conditional = _span(given, max(skipped, 1))
        unconditional = _span(alone, 1)
        cut = len(given) < len(whole) or len(alone) < len(target)
        status: ScoreStatus = "truncated" if cut else "ok"
        if conditional is None or unconditional is None:
            status = "overlong" if len(whole) > skipped >= self.max_length else "empty"
        return SpanPair(
            conditional, unconditional, status, conditional.num_targets if conditional else 0
        )

    def _encode(self, texts: Iterable[str], *, special: bool) -> Mapping[str, list[int]]:
        ordered = sorted(texts)
        encoded = self._ids(ordered, special)
        return dict(zip(ordered, encoded, strict=True))

    def _ids(self, texts: list[str], special: bool) -> list[list[int]]:
        if not texts:
            return []
        with self._one_at_a_time:
            ids: list[list[int]] = self.tokenizer(
                texts, add_special_tokens=special, return_attention_mask=False, verbose=False
            )["input_ids"]
        return ids


def _span(ids: list[int], start: int) -> Span | None:
    return Span(np.array(ids, dtype=np.int32), start) if start < len(ids) else None


def _anchor_of(tokenizer: Any) -> int | None:
    """The token in front of an unconditional target: BOS, or EOS where there is no BOS."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return int(bos) if bos is not None else (int(eos) if eos is not None else None)


def _opening_of(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts in front of a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full: list[int] = tokenizer("a", add_special_tokens=True)["input_ids"]
    for begin in range(len(full) - len(bare) + 1):
        if full[begin : begin + len(bare)] == bare:
            return full[:begin]
    return []
