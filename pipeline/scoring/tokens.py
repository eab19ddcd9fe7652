"""Texts -> token spans: the two ways of turning (prefix, target) into tokens (METHOD section 2)."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..chat_template import SHIELD
from ..config import TokenizationName
from ..errors import CurateError
from ..method.spans import Pair
from ..records import ScoreStatus
from ..templates import Template
from .packing import Ids, Span

log = logging.getLogger(__name__)


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
    """Turns pairs into spans of at most `max_length` tokens.

    `exact` knows what stands between a template's prompt and a response: a line break belongs to
    the prompt, a space to the response. Special tokens are only those that the tokenizer puts in
    front and those of the template's own markup; in a record's texts such words are plain text.
    """

    def __init__(
        self, tokenizer: Any, template: Template, *, name: TokenizationName, max_length: int
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.name = name
        self.max_length = max_length
        self._one_at_a_time = Lock()  # a fast tokenizer must not be borrowed twice
        self.anchor = _anchor_of(tokenizer)
        self.opening = self._find_opening()
        self._space = "" if self._puts_space_in_front() else template.leading_space
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

    def prefix_ids(self, prompt: str) -> list[int]:
        """A prompt's tokens, behind the special tokens in front and up to the response."""
        return self._encode_prefixes([prompt])[0]

    def next_turn_ids(self, prompt: str) -> list[int]:
        """The tokens of a further prompt, which stands behind a response and its end."""
        return self._encode_prompts([prompt])[0]

    def target_ids(self, text: str) -> list[int]:
        """A response's tokens, with the space in front of it, without special ones."""
        return self._encode_targets([text])[0]

    def document_ids(self, text: str) -> list[int]:
        """A text's tokens by themselves; for `reference` with the tokenizer's special tokens."""
        encode = self._encode_default if self.name == "reference" else self._encode_plain
        return encode([text])[0]

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
        ids = self._encode_plain([text])[0][: self.max_length - len(opening)]
        return _span([*opening, *ids, 0], len(opening) + 1) if ids else None

    def span_pairs(self, pairs: Sequence[Pair]) -> list[SpanPair]:
        """The spans of each pair; every distinct text is tokenised once."""
        if self.name == "reference":
            return self._reference(pairs)
        prefixes = _encode_distinct({p.prefix for p in pairs}, self._encode_prefixes)
        targets = _encode_distinct({p.target for p in pairs}, self._encode_targets)
        return [self._exact(prefixes[p.prefix], targets[p.target]) for p in pairs]

    def _encode_prefixes(self, prompts: list[str]) -> list[list[int]]:
        return [self.opening + ids for ids in self._encode_prompts(prompts)]

    def _encode_prompts(self, prompts: list[str]) -> list[list[int]]:
        texts = [self.template.before_response(prompt) for prompt in prompts]
        if self.template.chat is None:
            return self._encode_plain(texts)
        shielded = [text for text in texts if SHIELD in text]
        ids = _encode_distinct({*texts}.difference(shielded), self._encode_markup)
        return [self._encode_shielded(text) if SHIELD in text else ids[text] for text in texts]

    def _encode_shielded(self, text: str) -> list[int]:
        """The tokens of a rendered text of which some words only look like special tokens."""
        assert self.template.chat is not None and self.template.chat.special is not None
        ids: list[int] = []
        for index, part in enumerate(self.template.chat.special.split(text)):
            plain = part.replace(SHIELD, "")
            ids += self._encode_markup([part])[0] if index % 2 else self._encode_plain([plain])[0]
        return ids

    def _encode_targets(self, texts: list[str]) -> list[list[int]]:
        bare = self._encode_plain([self._space])[0] if self._space else []
        found = self._encode_plain([self._space + text for text in texts])
        return [
            [] if not text or ids == bare else ids for text, ids in zip(texts, found, strict=True)
        ]

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
        given = [(p.prefix.replace(SHIELD, ""), p.target) for p in pairs]
        rendered = self._encode_markup if self.template.chat is not None else self._encode_default
        prefixes = _encode_distinct({prefix for prefix, _ in given}, rendered)
        targets = _encode_distinct({target for _, target in given}, self._encode_default)
        wholes = _encode_distinct({prefix + target for prefix, target in given}, rendered)
        return [
            self._as_released(len(prefixes[prefix]), targets[target], wholes[prefix + target])
            for prefix, target in given
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

    def _encode_plain(self, texts: list[str]) -> list[list[int]]:
        """Plain text: words that look like special tokens are none."""
        return self._encode(texts, add_special_tokens=False, split_special_tokens=True)

    def _encode_markup(self, texts: list[str]) -> list[list[int]]:
        """Text with special tokens in it, and none put around it."""
        return self._encode(texts, add_special_tokens=False, split_special_tokens=False)

    def _encode_default(self, texts: list[str]) -> list[list[int]]:
        """As the tokenizer is called by default."""
        return self._encode(texts, add_special_tokens=True, split_special_tokens=False)

    def _encode(self, texts: list[str], **how: bool) -> list[list[int]]:
        if not texts:
            return []
        with self._one_at_a_time:
            ids: list[list[int]] = self.tokenizer(
                texts, return_attention_mask=False, verbose=False, **how
            )["input_ids"]
        return ids

    def _find_opening(self) -> list[int]:
        """What stands in front of every prompt: the tokenizer's special tokens, and a BOS."""
        if self.template.chat is not None:  # which brings its own
            return []
        opening = self._special_in_front()
        bos = self.tokenizer.bos_token_id
        if self.name == "reference" or bos in (None, self.eos_id, *opening):
            return opening
        log.warning(
            "the student's tokenizer has a BOS token and does not put it in front: exact "
            "tokenization opens every sequence with it"
        )
        return [int(bos), *opening]

    def _special_in_front(self) -> list[int]:
        """The special tokens that the tokenizer puts in front of a text."""
        bare, full = self._encode_plain(["a"])[0], self._encode_default(["a"])[0]
        for begin in range(len(full) - len(bare) + 1):
            if full[begin : begin + len(bare)] == bare:
                return full[:begin]
        return []

    def _puts_space_in_front(self) -> bool:
        """Whether a word has the same tokens at a text's beginning as behind a space."""
        ids = self._encode_plain(["a a"])[0]
        half = len(ids) // 2
        return ids[:half] == ids[half:]


def _encode_distinct(
    texts: Iterable[str], tokenise: Callable[[list[str]], list[list[int]]]
) -> Mapping[str, list[int]]:
    """The tokens of every distinct text."""
    ordered = sorted(texts)
    return dict(zip(ordered, tokenise(ordered), strict=True))


def _span(ids: list[int], start: int) -> Span | None:
    return Span(np.array(ids, dtype=np.int32), start) if start < len(ids) else None


def _anchor_of(tokenizer: Any) -> int | None:
    """The token in front of an unconditional target: BOS, or EOS where there is no BOS."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return int(bos) if bos is not None else (int(eos) if eos is not None else None)
