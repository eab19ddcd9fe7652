"""Token sequences -> overlapping windows in which every token is scored once. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]


class Window(NamedTuple):
    """Tokens `begin` to `end` of a sequence, of which those from `start` on are scored."""

    begin: int
    start: int
    end: int


def sliding_windows(length: int, *, window: int, stride: int) -> Iterator[Window]:
    """Score tokens 1 to `length` - 1 once each, every one behind at most `window` others.

    The first window scores `window` tokens, each later one `stride`, the last what is left. Token 0
    is the anchor. These are the windows of lm-eval's `get_rolling_token_windows` with
    `max_seq_len=window, context_len=window - stride + 1`.

    >>> [tuple(w) for w in sliding_windows(8, window=4, stride=2)]
    [(0, 1, 5), (2, 5, 7), (3, 7, 8)]
    """
    start, end = 1, min(window + 1, length)
    while start < length:
        yield Window(max(end - window - 1, 0), start, end)
        start, end = end, min(end + stride, length)


def stream_windows(
    documents: Iterable[Tokens], *, window: int, stride: int
) -> Iterator[tuple[Window, Tokens]]:
    """Whole windows over one stream of documents, without what is left at its end (the paper's).

    A document is an array [..., tokens] whose last axis is joined; each window comes with its part
    of the stream. The stream's first token and up to `stride` - 1 at its end are not scored.

    >>> parts = [np.arange(5, dtype=np.int32), np.arange(5, 8, dtype=np.int32)]
    >>> [(tuple(w), ids.tolist()) for w, ids in stream_windows(parts, window=3, stride=2)]
    [((0, 1, 4), [0, 1, 2, 3]), ((2, 4, 6), [2, 3, 4, 5]), ((4, 6, 8), [4, 5, 6, 7])]
    """
    left: Tokens | None = None
    begin, start = 0, 1
    for document in documents:
        stream = document if left is None else np.concatenate((left, document), axis=-1)
        first = begin
        while stream.shape[-1] - (begin - first) > window:
            end = begin + window + 1
            yield Window(begin, start, end), stream[..., begin - first : end - first]
            begin, start = begin + stride, end
        left = stream[..., begin - first :]
