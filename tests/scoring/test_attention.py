"""Attention over packed rows against plain arithmetic."""

import numpy as np
import pytest
import torch

from curate.pipeline.scoring.attention import (
    STEP,
    Layout,
    boundaries,
    layout_of,
    packed_attention,
)
from curate.pipeline.scoring.packing import Segment

SEGMENTS = (
    Segment(0, 5, 0),
    Segment(5, 9, 0),
    Segment(9, 9 + 3 * STEP + 1, 5, ((0, 5),)),
    Segment(10 + 3 * STEP, 17 + 3 * STEP, 4, ((5, 9),)),
    Segment(17 + 3 * STEP, 30 + 3 * STEP, 11, ((5, 9), (10 + 3 * STEP, 17 + 3 * STEP))),
)


def sees(query: int, key: int, window: int | None) -> bool:
    """Whether one token of the row may look at another, in words rather than in blocks."""
    s = next(s for s in SEGMENTS if s.begin <= query < s.end)
    rows = [row for begin, end in s.context for row in range(begin, end)]
    rows += range(s.begin, query + 1)
    return key in (rows if window is None else rows[-window:])


@pytest.mark.parametrize("window", [None, 7, STEP + 3])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_each_token_attends_to_its_header_and_itself(
    window: int | None, softcap: float | None, kv_heads: int
) -> None:
    torch.manual_seed(0)
    length = SEGMENTS[-1].end
    q = torch.randn(1, 4, length, 8)
    k, v = torch.randn(2, 1, kv_heads, length, 8)
    with layout_of(Layout(SEGMENTS)):
        out, _ = packed_attention(
            torch.nn.Identity(), q, k, v, sliding_window=window, softcap=softcap, scaling=0.3
        )
    visible = torch.tensor([[sees(i, j, window) for j in range(length)] for i in range(length)])
    keys, values = (t.double().repeat_interleave(4 // kv_heads, dim=1) for t in (k, v))
    scores = q.double() @ keys.transpose(2, 3) * 0.3
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    expected = scores.masked_fill(~visible, -torch.inf).softmax(-1) @ values
    torch.testing.assert_close(out.double(), expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_the_kernels_indices_name_every_key_of_every_segment() -> None:
    queries, keys, rows = boundaries(SEGMENTS)
    assert queries.tolist() == [0, *(s.end for s in SEGMENTS)]
    for number, s in enumerate(SEGMENTS):
        mine = rows[keys[number] : keys[number + 1]]
        context = [row for begin, end in s.context for row in range(begin, end)]
        assert mine.tolist() == [*context, *range(s.begin, s.end)]
    assert rows.dtype == np.int64
