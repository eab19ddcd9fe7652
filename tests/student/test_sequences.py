"""Packing: every token comes back, rows keep to the budget, a shared opening is really shared."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.student.sequences import Ids, Pack, Span, distinct, header_of, plan

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


def unpacked(pack: Pack) -> list[tuple[list[int], list[int]]]:
    """Each sequence of a row as its segment reads it, without its last token, and its positions."""
    own = pack.segments[len(pack.segments) - len(pack.spans) :]
    return [
        (
            pack.ids[s.header_begin : s.header_end].tolist() + pack.ids[s.begin : s.end].tolist(),
            pack.positions[s.header_begin : s.header_end].tolist()
            + pack.positions[s.begin : s.end].tolist(),
        )
        for s in own
    ]


@given(spans_given(), st.integers(0, 60))
def test_every_token_comes_back(given: tuple[list[Span], list[Ids]], budget: int) -> None:
    spans, headers = given
    seen: list[int] = []
    for pack in plan(spans, headers, budget):
        seen += pack.spans
        read = 0
        for index, (tokens, positions) in zip(pack.spans, unpacked(pack), strict=True):
            span = spans[index]
            assert tokens == span.ids[:-1].tolist()
            assert positions == list(range(len(span.ids) - 1))
            targets = pack.targets[read : read + span.num_targets]
            predict = pack.predict[read : read + span.num_targets]
            read += span.num_targets
            assert targets.tolist() == span.ids[span.start :].tolist()
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
    own = [s.end - s.begin for pack in packs for s in pack.segments[-len(pack.spans) :]]
    assert all(a >= b for a, b in pairwise(own))
    for pack, following in pairwise(packs):  # no row ends while the next sequence had room
        first = following.segments[-len(following.spans)]
        extra = first.header_end - first.header_begin
        shared = {tuple(pack.ids[s.header_begin : s.header_end]) for s in pack.segments}
        opening = tuple(following.ids[first.header_begin : first.header_end])
        needed = first.end - first.begin + (0 if opening in shared else extra)
        assert len(pack.ids) + needed > budget


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
def test_whether_an_opening_is_shared_is_no_matter_of_neighbours(
    given: tuple[list[Span], list[Ids]], budget: int
) -> None:
    spans, headers = given
    skipped = {}
    for pack in plan(spans, headers, budget):
        for index, segment in zip(pack.spans, pack.segments[-len(pack.spans) :], strict=True):
            skipped[index] = segment.position
    for index, span in enumerate(spans):
        alone = next(plan([span], headers, budget))
        assert alone.segments[-1].position == skipped[index]


@given(spans_given())
def test_each_distinct_span_once(given: tuple[list[Span], list[Ids]]) -> None:
    spans, _ = given
    unique, where = distinct(spans)
    assert [unique[index].key for index in where] == [span.key for span in spans]
    assert len({span.key for span in unique}) == len(unique)


def test_the_first_scored_position_is_part_of_what_a_span_is() -> None:
    tokens = array([1, 2, 3])
    assert len(distinct([Span(tokens, 1), Span(tokens, 2), Span(tokens.copy(), 1)])[0]) == 2
