"""Attention over packed rows against plain arithmetic."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from curate.pipeline.scoring.forward import attention
from curate.pipeline.scoring.forward.attention import (
    STEP,
    Layout,
    boundaries,
    layout_of,
    packed_attention,
)
from curate.pipeline.scoring.forward.packing import Segment

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


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float, left: int) -> Tensor:
    """Attention [n, H, D] of the last n of m positions, aligned bottom-right, in float64."""
    n, m, groups = len(q), len(k), q.shape[1] // k.shape[1]
    k, v = (t.double().repeat_interleave(groups, dim=1) for t in (k, v))
    scores = torch.einsum("nhd,mhd->hnm", q.double(), k) * scale
    distance = torch.arange(m - n, m)[:, None] - torch.arange(m)[None, :]
    hidden = (distance < 0) | ((distance > left) if left >= 0 else torch.tensor(False))
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("hnm,mhd->nhd", weights, v).float()


def plain_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
) -> Tensor:
    """What `varlen_attn` of torch 2.11 computes; it takes fewer key heads as they are."""
    assert window_size[1] == 0
    bounds = [torch.split(t, cu.diff().tolist()) for t, cu in
              ((query, cu_seq_q), (key, cu_seq_k), (value, cu_seq_k))]  # fmt: skip
    assert max(map(len, bounds[0])) == max_q and max(map(len, bounds[1])) == max_k
    parts = zip(*bounds, strict=True)
    return torch.cat([causal(q, k, v, scale, window_size[0]) for q, k, v in parts])


def later_varlen(
    *given: Any, enable_gqa: bool = False, num_splits: int | None = None, **more: Any
) -> Tensor:
    """Of torch 2.13, which must be told of fewer key heads."""
    assert num_splits == 1 and enable_gqa == (given[0].shape[1] != given[1].shape[1])
    return plain_varlen(*given, **more)


@pytest.mark.parametrize("kernel", [plain_varlen, later_varlen], ids=["torch 2.11", "torch 2.13"])
@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_kernels_row_is_that_of_the_segments(
    kernel: Any, window: int | None, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of plain arithmetic in place of the GPU's, with the arguments of each torch."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    attention._varlen_arguments.cache_clear()
    torch.manual_seed(0)
    q = torch.randn(1, 4, SEGMENTS[-1].end, 8)
    k, v = torch.randn(2, 1, kv_heads, SEGMENTS[-1].end, 8)
    queries, keys, rows = map(torch.from_numpy, boundaries(SEGMENTS))
    layout = Layout(
        SEGMENTS, queries, keys, rows, int(queries.diff().max()), int(keys.diff().max())
    )
    try:
        found = attention._varlen(q, k, v, layout, 0.3, window)
    finally:
        attention._varlen_arguments.cache_clear()
    with layout_of(Layout(SEGMENTS)):
        expected, _ = packed_attention(
            torch.nn.Identity(), q, k, v, sliding_window=window, scaling=0.3
        )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
