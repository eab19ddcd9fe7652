"""Attention over packed rows: every segment sees itself, and its shared header, and nothing else.

Registered with transformers under the name `curate_packed`. No mask tensor is ever built for the
row; the layout of the row being scored is handed over in a context variable, so that no model has
to pass it through its layers.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from .packing import Segment, numbers

NAME = "curate_packed"
STEP = 64
AMPERE = (8, 0)
"""The first compute capability with bfloat16 and with a kernel for `varlen_attn`."""
Indices = npt.NDArray[np.int64]
# Arguments of transformers' attention interface that change nothing in inference.
_HARMLESS = frozenset(
    {"dropout", "is_causal", "position_ids", "output_attentions", "use_cache", "cache_position"}
    | {"position_bias", "head_mask", "output_hidden_states", "return_dict", "past_key_values"}
    | {"attention_mask", "position_embeddings", "past_key_value", "layer_idx"}
)


class UnpackableError(Exception):
    """The model's attention does something that packed rows do not reproduce."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The segments of a row, and for `varlen_attn` their boundaries [S+1] and key rows [K]."""

    segments: tuple[Segment, ...]
    cu_queries: Tensor | None = None
    cu_keys: Tensor | None = None
    key_rows: Tensor | None = None
    max_queries: int = 0
    max_keys: int = 0


_layout: ContextVar[Layout] = ContextVar("layout")


@contextmanager
def layout_of(layout: Layout) -> Iterator[None]:
    """While active, attention runs over rows of this layout."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def make_layout(segments: tuple[Segment, ...], device: torch.device, dtype: torch.dtype) -> Layout:
    """The layout of a row; with index tensors where the CUDA kernel will run."""
    half = dtype in (torch.float16, torch.bfloat16)
    if not half or device.type != "cuda" or torch.cuda.get_device_capability(device) < AMPERE:
        return Layout(segments)
    queries, keys, rows = boundaries(segments)

    def there(values: Indices, kind: torch.dtype) -> Tensor:
        return torch.from_numpy(values).to(kind).pin_memory().to(device, non_blocking=True)

    return Layout(
        segments,
        there(queries, torch.int32),
        there(keys, torch.int32),
        there(rows, torch.int64),
        int(np.diff(queries).max()),
        int(np.diff(keys).max()),
    )


def boundaries(segments: Sequence[Segment]) -> tuple[Indices, Indices, Indices]:
    """Where each segment's queries and keys begin and end [S+1], and the rows of all keys [K].

    >>> [a.tolist() for a in boundaries([Segment(0, 2, 0), Segment(2, 3, 2, ((0, 2),))])]
    [[0, 2, 3], [0, 2, 5], [0, 1, 0, 1, 2]]
    """
    # A segment's keys are its context's stretches of the row and its own.
    rows = numbers([r for s in segments for r in (*s.context, (s.begin, s.end))])
    queries = np.array([0, *(s.end for s in segments)])
    keys = np.cumsum([0, *(s.position + s.end - s.begin for s in segments)])
    return queries, keys, rows


def register() -> None:
    """Make `attn_implementation="curate_packed"` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, Hq, T, D], key and value [1, Hkv, T, D].

    Returns [1, T, Hq, D]. Raises UnpackableError for an argument with an effect that is not
    reproduced here (attention sinks, a mask or a bias of the model's own).
    """
    unknown = {name for name, given in kwargs.items() if given is not None} - _HARMLESS
    if unknown or attention_mask is not None or query.shape[0] != 1:
        raise UnpackableError(f"attention takes {', '.join(sorted(unknown)) or 'a mask'}")
    layout = _layout.get()
    if layout.key_rows is not None and query.dtype != torch.float32 and softcap is None:
        return _varlen(query, key, value, layout, scaling, sliding_window), None
    parts = [
        _segment(query, key, value, segment, scaling, sliding_window, softcap)
        for segment in layout.segments
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    s: Segment,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """One segment's attention [1, Hq, n, D] over its header and itself."""
    q = query[:, :, s.begin : s.end]
    k, v = _own(key, s), _own(value, s)
    n, m = q.shape[2], k.shape[2]
    windowed = window is not None and m > window
    if softcap is not None:
        return _softcapped(q, k, v, _mask(n, m, window, q.device), scaling, softcap)
    attend = partial(
        functional.scaled_dot_product_attention, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )
    if windowed:
        return attend(q, k, v, attn_mask=_mask(n, m, window, q.device))
    if q.device.type == "cpu":
        return _in_steps(attend, q, k, v)
    if n == m:
        return attend(q, k, v, is_causal=True)
    return attend(q, k, v, attn_mask=_mask(n, m, None, q.device))


def _in_steps(attend: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of the last n of m positions, STEP queries at a time.

    torch's kernel for CPUs computes masked blocks too; this leaves out those that nobody sees.
    """
    n, m = q.shape[2], k.shape[2]
    mask = _stairs(1 << m.bit_length(), q.dtype)
    parts = []
    for begin in range(0, n, STEP):
        end = min(begin + STEP, n)
        seen = m - n + end  # keys up to the step's last query
        corner = mask.shape[1] - STEP + end - begin
        parts.append(
            attend(
                q[:, :, begin:end],
                k[:, :, :seen],
                v[:, :, :seen],
                attn_mask=mask[: end - begin, corner - seen : corner],
            )
        )
    return torch.cat(parts, dim=2)


@cache
def _stairs(width: int, dtype: torch.dtype) -> Tensor:
    """What is added to scores [STEP, STEP + width]: query i sees all up to column width + i."""
    hidden = torch.full((STEP, STEP), -torch.inf, dtype=dtype).triu(1)
    return torch.cat((torch.zeros(STEP, width, dtype=dtype), hidden), dim=1)


def _own(tensor: Tensor, s: Segment) -> Tensor:
    """The context's rows and the segment's own [1, H, m, D]."""
    stretches = [tensor[:, :, begin:end] for begin, end in (*s.context, (s.begin, s.end))]
    return stretches[0] if len(stretches) == 1 else torch.cat(stretches, dim=2)


def _mask(n: int, m: int, window: int | None, device: torch.device) -> Tensor:
    """Which of m keys each of the last n of them may see [n, m]: causal, within the window."""
    queries = torch.arange(m - n, m, device=device)[:, None]
    keys = torch.arange(m, device=device)[None, :]
    visible = keys <= queries
    return visible if window is None else visible & (keys > queries - window)


def _softcapped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scaling: float | None, softcap: float
) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap
    weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1, dtype=torch.float32)
    return weights.to(v.dtype) @ v


@cache
def _varlen_arguments() -> frozenset[str]:
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """torch's varlen_attn over all segments at once; its causal mask is aligned bottom-right."""
    from torch.nn.attention.varlen import varlen_attn

    known = _varlen_arguments()
    options: dict[str, Any] = {
        "scale": scaling,
        "window_size": (-1 if window is None else window - 1, 0),
    }
    if "num_splits" in known:
        options["num_splits"] = 1  # bitwise the same in any batch
    if "enable_gqa" in known:  # before, fewer key heads were taken without it
        options["enable_gqa"] = query.shape[1] > key.shape[1]
    assert layout.key_rows is not None
    assert layout.cu_queries is not None and layout.cu_keys is not None
    out = varlen_attn(
        query[0].transpose(0, 1).contiguous(),
        key[0].transpose(0, 1).index_select(0, layout.key_rows),
        value[0].transpose(0, 1).index_select(0, layout.key_rows),
        layout.cu_queries,
        layout.cu_keys,
        layout.max_queries,
        layout.max_keys,
        **options,
    )
    assert isinstance(out, Tensor)
    return out.unsqueeze(0)
