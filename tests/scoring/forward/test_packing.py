"""Packing: every token comes back, rows keep to the budget, a shared opening is really shared."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.scoring.forward.packing import Ids, Pack, Span, distinct, header_of, plan

# Few tokens, so that sequences open with a header by accident too.
ids = st.integers(0, 2)
headers_given = st.lists(st.lists(ids, min_size=1, max_size=5), max_size=3)


@st.composite
def spans_given(draw: st.DrawFn) -> tuple[list[Span], list[Ids]]:
    headers = [array(header) for header in draw(headers_given)]
    openings = st.sampled_from([array([]), *headers])
    spans = []
    for tail in draw(st.lists(st.lists(ids, min_size=2, max_size=20), max_size=12)):
        sequence = np.concatenate((draw(openings), array(tail)))
        spans.append(Span(sequence, draw(st.integers(1, len(sequence) - 1))))
    return spans, headers


def array(given: Sequence[int]) -> Ids:
    return np.array(given, dtype=np.int32)


def seen_by(pack: Pack, row: int) -> tuple[list[int], list[int]]:
    """The tokens that a token of a row attends to, itself the last, and their positions."""
    s = next(s for s in pack.segments if s.begin <= row < s.end)
    rows = [r for begin, end in s.context for r in range(begin, end)] + [*range(s.begin, row + 1)]
    return pack.ids[rows].tolist(), pack.positions[rows].tolist()


@given(spans_given(), st.integers(0, 60))
def test_every_token_comes_back(given: tuple[list[Span], list[Ids]], budget: int) -> None:
    spans, headers = given
    seen: list[int] = []
    for pack in plan(spans, headers, budget):
        seen += pack.spans
        read = 0
        for index in pack.spans:
            span = spans[index]
            targets = pack.targets[read : read + span.num_targets]
            predict = pack.predict[read : read + span.num_targets]
            read += span.num_targets
            assert targets.tolist() == span.ids[span.start :].tolist()
            for row, length in zip(predict, range(span.start, len(span.ids)), strict=True):
                tokens = span.ids[:length].tolist()
                assert seen_by(pack, row) == (tokens, list(range(length)))
            # What predicts a token is the one before it.
            assert pack.ids[predict].tolist() == span.ids[span.start - 1 : -1].tolist()
            assert pack.positions[predict].tolist() == list(
                range(span.start - 1, len(span.ids) - 1)
            )
        assert read == len(pack.targets) == len(pack.predict)
        # The segments cover the row, one after another.
        ends = [0, *(s.end for s in pack.segments)]
        assert [s.begin for s in pack.segments] == ends[:-1]
        assert ends[-1] == len(pack.ids) == len(pack.positions)
    assert sorted(seen) == list(range(len(spans)))


@given(spans_given(), st.integers(0, 60))
def test_rows_keep_to_the_budget_longest_first(
    given: tuple[list[Span], list[Ids]], budget: int
) -> None:
    spans, headers = given
    packs = list(plan(spans, headers, budget))
    assert all(len(pack.ids) <= budget or len(pack.spans) == 1 for pack in packs)
    if budget:
        first = [next(i for i in packs[0].spans)] if packs else []
        assert all(len(spans[i].ids) == max(len(s.ids) for s in spans) for i in first)
    for pack, following in pairwise(packs):  # no row ends while the next sequence had room
        both = [spans[i] for i in (*pack.spans, following.spans[0])]
        whole = next(plan(both, headers, 1 << 30))
        assert len(whole.ids) > budget


@given(spans_given())
def test_a_prefix_stands_in_a_row_once(given: tuple[list[Span], list[Ids]]) -> None:
    spans, headers = given
    pieces: set[tuple[int, bytes]] = set()
    for span in (s for s in spans if s.start > 1):
        header = header_of(span, headers)
        begin = 0 if header is None else len(headers[header])
        pieces |= {(0, span.ids[:begin].tobytes()), (begin, span.ids[: span.start].tobytes())}
    targets = sum(len(s.ids) - 1 - (s.start if s.start > 1 else 0) for s in spans)
    expected = sum(len(tokens) // 4 - begin for begin, tokens in pieces) + targets
    assert sum(len(pack.ids) for pack in plan(spans, headers, 1 << 30)) == expected


@given(spans_given())
def test_an_opening_is_shared_only_where_the_ids_start_with_it(
    given: tuple[list[Span], list[Ids]],
) -> None:
    spans, headers = given
    for span in spans:
        fits = [
            header
            for header in headers
            if len(header) < span.start and span.ids[: len(header)].tolist() == header.tolist()
        ]
        found = header_of(span, headers)
        assert (found is None) == (not fits)
        if found is not None:
            assert len(headers[found]) == max(map(len, fits))


@given(spans_given(), st.integers(1, 60))
def test_how_a_sequence_is_cut_is_no_matter_of_neighbours(
    given: tuple[list[Span], list[Ids]], budget: int
) -> None:
    def cuts(pack: Pack, place: int) -> list[int]:
        """The lengths of the pieces that the last prediction of a span looks at."""
        row = pack.predict[sum(pack.lengths[: place + 1]) - 1]
        s = next(s for s in pack.segments if s.begin <= row < s.end)
        return [*(end - begin for begin, end in s.context), row - s.begin]

    spans, headers = given
    for pack in plan(spans, headers, budget):
        for place, index in enumerate(pack.spans):
            assert cuts(pack, place) == cuts(next(plan([spans[index]], headers, budget)), 0)


@given(spans_given())
def test_each_distinct_span_once(given: tuple[list[Span], list[Ids]]) -> None:
    spans, _ = given
    unique, where = distinct(spans)
    assert [unique[index].key for index in where] == [span.key for span in spans]
    assert len({span.key for span in unique}) == len(unique)


def test_the_first_scored_position_is_part_of_what_a_span_is() -> None:
    tokens = array([1, 2, 3])
    assert len(distinct([Span(tokens, 1), Span(tokens, 2), Span(tokens.copy(), 1)])[0]) == 2
