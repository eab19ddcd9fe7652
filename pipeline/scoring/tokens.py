"""Texts -> token spans: the two ways of turning (prefix, target) into tokens (METHOD section 2)."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..chat_template import SHIELD
from ..config import TokenizationName
from ..errors import CurateError
from ..method.spans import Pair
from ..models.loading import tokenizer_errors
from ..records import ScoreStatus
from ..templates import Template
from .encoding import array, arrays, backend_of, encode_distinct, encode_fast
from .forward.packing import Ids, Span

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
        self._backend = backend_of(tokenizer)
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

    def prefix_ids(self, prompt: str, context: tuple[str, ...] = ()) -> list[int]:
        """A prompt's tokens, behind the special tokens in front and up to the response.

        `context` is T(h) as `Template.context` gives it.
        """
        before, ids = array(self.context_ids(context)), self._encode_prompts([prompt])[0]
        found: list[int] = self._behind(before, array(ids)).tolist()
        return found

    def context_ids(self, context: tuple[str, ...]) -> list[int]:
        """The tokens of T(h); of a wire format, each answer has EOS behind it."""
        if not context:
            return []
        if self.template.chat is not None:
            return self._encode_rendered([context[0]])[0]
        end = [] if self.eos_id is None else [self.eos_id]
        ids = list(self.opening)
        for prompt, answer in zip(context[::2], context[1::2], strict=True):
            ids += [*self._encode_prompts([prompt])[0], *self.target_ids(answer), *end]
        return ids

    def _behind(self, context: Ids, prompt: Ids) -> Ids:
        """A prompt behind its history, which a rendered one has in it already."""
        if self.template.chat is not None:
            return prompt
        return np.concatenate((context if len(context) else array(self.opening), prompt))

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
        prompts = arrays(encode_distinct({p.prefix for p in pairs}, self._encode_prompts))
        targets = arrays(encode_distinct({p.target for p in pairs}, self._encode_targets))
        contexts = arrays({c: self.context_ids(c) for c in {p.context for p in pairs}})
        return [
            self._exact(
                self._behind(contexts[p.context], prompts[p.prefix]),
                targets[p.target],
                contexts[p.context],
            )
            for p in pairs
        ]

    def _encode_prompts(self, prompts: list[str]) -> list[list[int]]:
        texts = [self.template.before_response(prompt) for prompt in prompts]
        if self.template.chat is None:
            return self._encode_plain(texts)
        return self._encode_rendered(texts)

    def _encode_rendered(self, texts: list[str]) -> list[list[int]]:
        """Texts of a chat template, whose markup alone is special."""
        shielded = [text for text in texts if SHIELD in text]
        ids = encode_distinct({*texts}.difference(shielded), self._encode_markup)
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

    def _exact(self, prefix: Ids, whole: Ids, context: Ids) -> SpanPair:
        assert self.anchor is not None
        anchor = array([self.anchor])
        prefix, before = (ids if len(ids) else anchor for ids in (prefix, context))
        target = whole[: max(self.max_length - max(len(prefix), len(before)), 0)]
        if not len(target):
            return SpanPair(None, None, "overlong" if len(whole) else "empty", 0)
        opens = np.array_equal(prefix[: len(context)], context)
        return SpanPair(
            Span(np.concatenate((prefix, target)), len(prefix), len(context) if opens else 0),
            Span(np.concatenate((before, target)), len(before), len(context)),
            "ok" if len(target) == len(whole) else "truncated",
            len(target),
        )

    def _reference(self, pairs: Sequence[Pair]) -> list[SpanPair]:
        given = [(*self._texts(p), p.target) for p in pairs]
        rendered = self._encode_markup if self.template.chat is not None else self._encode_default
        prefixes = encode_distinct({text for one in given for text in one[:2]}, rendered)
        targets = encode_distinct({target for *_, target in given}, self._encode_default)
        wholes = encode_distinct(
            {text + target for context, prefix, target in given for text in (context, prefix)},
            rendered,
        )
        return [
            self._as_released(
                len(prefixes[prefix]),
                wholes[prefix + target],
                len(prefixes[context]) if context else 0,
                wholes[context + target] if context else targets[target],
            )
            for context, prefix, target in given
        ]

    def _texts(self, pair: Pair) -> tuple[str, str]:
        """T(h), empty without a history, and the whole prompt, as plain texts."""
        end = str(self.tokenizer.eos_token or "")
        ends = (end if place % 2 else "" for place in range(len(pair.context)))
        if self.template.chat is not None:
            return "".join(pair.context).replace(SHIELD, ""), pair.prefix.replace(SHIELD, "")
        context = "".join(text + end for text, end in zip(pair.context, ends, strict=True))
        return context, context + pair.prefix

    def _as_released(
        self, skipped: int, whole: list[int], before: int, target: list[int]
    ) -> SpanPair:
        """Both passes of the released scripts; `before` are T(h)'s tokens in front of the target.

        Without a history the unconditional pass leaves the target's first token unscored.
        """
        given = whole[: self.max_length]
        alone = target[: max(self.max_length - skipped + max(before, 1), 0)]
        conditional = _span(given, max(skipped, 1))
        unconditional = _span(alone, max(before, 1))
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
        with self._one_at_a_time, tokenizer_errors(self.tokenizer.name_or_path):
            if self._backend is not None:
                return encode_fast(self._backend, texts, **how)
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


def _span(ids: list[int], start: int) -> Span | None:
    return Span(array(ids), start) if start < len(ids) else None


def _anchor_of(tokenizer: Any) -> int | None:
    """The token in front of an unconditional target: BOS, or EOS where there is no BOS."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return int(bos) if bos is not None else (int(eos) if eos is not None else None)
