"""Token sequences with a scored tail, and how they are packed into rows without padding."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
SpanKey = tuple[bytes, int, int]
Stretch = tuple[int, int]
"""Where some tokens of a row begin and end."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A token sequence of which the tokens from `start` on are scored; `start` >= 1.

    The first `shared` tokens, a history, are computed once for all that begin with them.
    """

    ids: Ids
    start: int
    shared: int = 0

    def __post_init__(self) -> None:
        assert 1 <= self.start < len(self.ids), (self.start, len(self.ids))

    @property
    def key(self) -> SpanKey:
        """What the score is a function of: equal keys have equal scores."""
        return self.ids.tobytes(), self.start, self.shared

    @property
    def num_targets(self) -> int:
        """The number of scored tokens."""
        return len(self.ids) - self.start


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a packed row: its tokens `row[begin:end]` sit at positions `position`...

    They attend to themselves, causally, and to all of `context`: the stretches of the row, as
    (begin, end), that hold the `position` tokens before them.
    """

    begin: int
    end: int
    position: int
    context: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """One row of tokens [T] for a forward pass, and where its predictions are.

    `predict` [R] are the positions in the row whose output predicts `targets` [R]; span i of
    `spans` (indices into the planned list) owns the next `lengths[i]` of them. `width`, where it is
    not 0, is the length that the row is filled up to (or a multiple of it).
    """

    ids: Ids
    positions: Ids
    segments: tuple[Segment, ...]
    predict: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    spans: tuple[int, ...]
    lengths: tuple[int, ...]
    width: int = 0


def header_of(span: Span, headers: Sequence[Ids]) -> int | None:
    """The longest header that the sequence really opens with, by its token ids; None if none does.

    A function of the sequence alone, never of its neighbours: sharing changes last bits.
    """
    row = span.ids[: span.start - 1].tobytes()
    fits = [index for index, header in enumerate(headers) if row.startswith(header.tobytes())]
    return max(fits, key=lambda index: len(headers[index]), default=None)


def plan(spans: Sequence[Span], headers: Sequence[Ids], budget: int) -> Iterator[Pack]:
    """Pack spans, longest first, into rows of at most `budget` tokens (one longer span is alone).

    A row holds a header once, and once each prefix that spans of it share; such spans come one
    after another. Whether a sequence is cut into pieces so depends on itself alone. The last token
    of a sequence predicts nothing and is not in the row. With a budget of 0 every sequence is a row
    of its own, in one piece.
    """
    pieces = [_pieces(span, headers if budget else (), cut=budget > 0) for span in spans]
    chosen: list[int] = []
    used: set[Key] = set()
    total = 0
    for index in _order(spans, pieces):
        needed = sum(len(piece) for piece, key in pieces[index] if key not in used)
        if chosen and total + needed > budget:
            yield _pack(spans, chosen, pieces)
            chosen, used, total = [], set(), 0
            needed = sum(len(piece) for piece, _ in pieces[index])
        used.update(key for _, key in pieces[index][:-1] if key is not None)
        chosen.append(index)
        total += needed
    if chosen:
        yield _pack(spans, chosen, pieces)


Key = tuple[int, bytes]
Piece = tuple[Ids, Key | None]
"""Some tokens of a sequence and, where others may share them, what they are known by: where they
begin, and all tokens up to their end."""


def _pieces(span: Span, headers: Sequence[Ids], *, cut: bool) -> list[Piece]:
    """The header or history, the rest of the prefix, and the target; without a prefix that alone.

    The prefix of an unconditional span, its anchor, is no piece: there is nothing to save.
    """
    own = span.ids[:-1]
    if not cut or span.start == 1:
        return [(own, None)]
    header = None if span.shared else header_of(span, headers)
    begin = span.shared if header is None else len(headers[header])
    prefix, target = own[: span.start].tobytes(), (own[span.start :], None)
    if begin in (0, span.start):
        return [(own[: span.start], (0, prefix)), target]
    opening = (own[:begin], (0, own[:begin].tobytes()))
    return [opening, (own[begin : span.start], (begin, prefix)), target]


def _order(spans: Sequence[Span], pieces: Sequence[list[Piece]]) -> Iterator[int]:
    """Longest first; spans of one prefix, or one history, stand with the longest of them."""
    groups: dict[Key | int, list[int]] = {}
    for index in sorted(range(len(spans)), key=lambda i: (-len(spans[i].ids), i)):
        first = 0 if spans[index].shared else -2
        shared = pieces[index][first][1] if len(pieces[index]) > 1 else None
        groups.setdefault(index if shared is None else shared, []).append(index)
    for group in groups.values():
        yield from group


def _pack(spans: Sequence[Span], chosen: list[int], pieces: Sequence[list[Piece]]) -> Pack:
    ids: list[Ids] = []
    segments: list[Segment] = []
    places: dict[Key, Stretch] = {}
    predict: list[Stretch] = []
    end = 0
    for index in chosen:
        context: tuple[Stretch, ...] = ()
        before, place, position = context, (0, 0), 0
        for piece, key in pieces[index]:
            known = places.get(key) if key is not None else None
            place = known or (end, end + len(piece))
            if known is None:
                if len(piece):
                    ids.append(piece)
                    segments.append(Segment(*place, position, context))
                end = place[1]
                if key is not None:
                    places[key] = place
            before, context = context, (*context, place)
            position += len(piece)
        if before:  # the first target is predicted by the last token of the prefix
            predict.append((before[-1][1] - 1, before[-1][1]))
        predict.append((max(place[0], place[1] - spans[index].num_targets), place[1]))
    positions = [(s.position, s.position + s.end - s.begin) for s in segments]
    return Pack(
        ids=np.concatenate(ids),
        positions=numbers(positions).astype(np.int32),
        segments=tuple(segments),
        predict=numbers(predict),
        targets=np.concatenate([spans[i].ids[spans[i].start :] for i in chosen]).astype(np.int64),
        spans=tuple(chosen),
        lengths=tuple(spans[index].num_targets for index in chosen),
    )


def numbers(stretches: Sequence[Stretch]) -> npt.NDArray[np.int64]:
    """The numbers from each begin up to its end, one stretch after another.

    >>> numbers([(4, 6), (1, 1), (0, 3)]).tolist()
    [4, 5, 0, 1, 2]
    """
    begins, ends = np.array(stretches).T
    lengths = ends - begins
    before = begins - np.cumsum(lengths) + lengths
    found: npt.NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(before, lengths)
    return found


def distinct(spans: Iterable[Span]) -> tuple[list[Span], list[int]]:
    """Each distinct span once, and for every given one the index of its representative."""
    seen: dict[SpanKey, int] = {}
    unique: list[Span] = []
    where: list[int] = []
    for span in spans:
        index = seen.setdefault(span.key, len(unique))
        if index == len(unique):
            unique.append(span)
        where.append(index)
    return unique, where
