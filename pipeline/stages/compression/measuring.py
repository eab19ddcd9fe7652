"""Documents -> their nats under one student, streamed: a few thousand windows at a time."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...errors import CurateError
from ...inputs.documents import Text
from ...method.statistics.compression import Document
from ...method.windows import Tokens, sliding_windows, stream_windows
from ...scoring.forward.packing import Span
from ...scoring.scorer import Scorer
from ...scoring.tokens import Tokenization

GROUP_TOKENS = 1 << 18
"""Tokens of the windows that are packed together."""

Status = Literal["ok", "lossy", "empty", "failed"]
Piece = tuple[Span, Tokens]
"""A window, and the number of the document that each of its scored tokens belongs to."""


@dataclass(slots=True)
class Measured:
    """A document and what was found; `lossy`: its tokens do not give the text back."""

    text: Text
    tokens: int
    lossy: bool
    nats: float = 0.0
    scored: int = 0

    @property
    def status(self) -> Status:
        """`failed` where the model gave no finite number."""
        if not self.text.text:
            return "empty"
        if not math.isfinite(self.nats):
            return "failed"
        return "lossy" if self.lossy else "ok"

    def document(self) -> Document:
        """The counts; no nats where nothing valid was scored."""
        text = self.text.text
        usable = self.status in ("ok", "lossy")
        nats = self.nats if usable else None
        return Document(len(text), len(text.encode()), self.scored, nats)


class Measuring:
    """Measures one corpus with one scorer; `window` and `stride` as in `method.windows`."""

    def __init__(
        self, scorer: Scorer, tokenization: Tokenization, *, window: int, stride: int
    ) -> None:
        self._scorer, self._tokenization = scorer, tokenization
        self._sizes = {"window": window, "stride": stride}
        self._open: deque[Measured] = deque()
        self._first = 0  # the number of the first document of `_open`
        self.stream_tokens = 0

    def documents(self, texts: Iterable[Text], *, skip: int = 0) -> Iterator[Measured]:
        """Each document once all of its tokens are scored, in the corpus's order.

        The first `skip` documents are tokenised alone: a stream's windows go by what is before.
        Raises CurateError where a `reference` stream is shorter than one window.
        """
        pieces = self._exact if self._tokenization.name == "exact" else self._stream
        wanted = (piece for piece in pieces(texts) if piece[1][-1] >= skip)
        for group in _grouped(wanted):
            self._score(group)
            yield from self._finished(int(group[-1][1][0]), skip)
        if self._tokenization.name == "reference" and self.stream_tokens <= self._sizes["window"]:
            raise CurateError(
                f"the corpus has {self.stream_tokens} tokens, and one window of --tokenization "
                f"reference needs {self._sizes['window'] + 1}: give a smaller --window, or "
                "--tokenization exact"
            )
        yield from self._finished(self._first + len(self._open), skip)

    def _exact(self, texts: Iterable[Text]) -> Iterator[Piece]:
        for number, text in enumerate(texts):
            ids = self._ids(text)
            sequence = np.array([self._tokenization.anchor, *ids], dtype=np.int32)
            for begin, start, end in sliding_windows(len(sequence), **self._sizes):
                owners = np.full(end - start, number, dtype=np.int32)
                yield Span(sequence[begin:end], start - begin), owners

    def _stream(self, texts: Iterable[Text]) -> Iterator[Piece]:
        """Documents that are empty are no part of the stream, as in the released code."""

        def numbered() -> Iterator[Tokens]:
            for number, text in enumerate(texts):
                ids = self._ids(text)
                self.stream_tokens += len(ids)
                yield np.array([ids, [number] * len(ids)], dtype=np.int32)

        for (begin, start, _), (ids, owners) in stream_windows(numbered(), **self._sizes):
            yield Span(ids, start - begin), owners[start - begin :]

    def _ids(self, text: Text) -> list[int]:
        """The document's tokens; enters it among those that are open."""
        ids = self._tokenization.document_ids(text.text) if text.text else []
        lossy = bool(text.text) and not self._tokenization.gives_back(ids, text.text)
        self._open.append(Measured(text, len(ids), lossy))
        return ids

    def _score(self, group: list[Piece]) -> None:
        found = self._scorer.token_nlls([span for span, _ in group])
        for nlls, (_, owners) in zip(found, group, strict=True):
            bounds = np.flatnonzero(np.diff(owners)) + 1
            starts = [0, *bounds.tolist()]
            for begin, end in zip(starts, [*starts[1:], len(owners)], strict=True):
                measured = self._open[int(owners[begin]) - self._first]
                measured.scored += end - begin
                measured.nats += math.nan if nlls is None else float(nlls[begin:end].sum())

    def _finished(self, bound: int, skip: int) -> Iterator[Measured]:
        """The documents before a number, of which no token is to come."""
        while self._first < bound and self._open:
            measured = self._open.popleft()
            self._first += 1
            if self._first > skip:
                yield measured


def _grouped(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    tokens = 0
    for piece in pieces:
        group.append(piece)
        tokens += len(piece[0].ids)
        if tokens >= GROUP_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group
