import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.method.windows import sliding_windows, stream_windows


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    window = draw(st.integers(1, 40))
    return draw(st.integers(0, 200)), window, draw(st.integers(1, window))


@given(sizes())
def test_the_windows_are_those_of_lm_eval(given: tuple[int, int, int]) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    number, window, stride = given
    tokens = list(range(1, number + 1))
    theirs = utils.get_rolling_token_windows(
        tokens, prefix_token=0, max_seq_len=window, context_len=window - stride + 1
    )
    expected = [utils.make_disjoint_window(pair) for pair in theirs]
    sequence = [0, *tokens]
    ours = [
        (sequence[begin:start], sequence[start:end])
        for begin, start, end in sliding_windows(len(sequence), window=window, stride=stride)
    ]
    assert ours == expected


@given(sizes(), st.lists(st.integers(0, 60), max_size=8))
def test_a_stream_is_cut_as_the_released_code_cuts_it(
    given: tuple[int, int, int], cuts: list[int]
) -> None:
    number, window, stride = given
    stream = np.arange(number, dtype=np.int32)
    expected = []
    previous = 0
    for index in range(max((number - (window + 1)) // stride + 1, 0)):
        begin, end = index * stride, index * stride + window + 1
        expected.append((stream[begin:end].tolist(), max(previous, 1)))
        previous = end
    parts = np.split(stream, sorted(cuts))
    found = stream_windows(parts, window=window, stride=stride)
    assert [(ids.tolist(), w.start) for w, ids in found] == expected
