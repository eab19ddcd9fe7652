"""The head as one fused Triton kernel: linear, log-sum-exp and the target's logit, forward only.

A program takes a block of rows through one split of the vocabulary, tile by tile, and keeps per row
a maximum and a sum of exponentials in float32; a second kernel merges the splits from first to
last. Memory is two floats a row and split. Nothing depends on the other rows or on their number:
blocks are fixed by the dtype, splits by the vocabulary, and no two programs write one place.

Triton is optional: it is imported when the kernels are first built. TRITON_INTERPRET=1, set before,
runs them on a CPU.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import triton.language as tl
else:
    tl = None  # the kernels find it among the module's globals; `_kernels` puts it there


@dataclass(frozen=True, slots=True)
class Blocks:
    """A program's tile: rows x vocabulary columns, summed over the hidden width in steps."""

    rows: int
    columns: int
    width: int
    warps: int


# 128 x 256 float32 sums are half the registers of 8 warps, the most that fits: every weight read
# from L2 serves 128 rows, every hidden value 256 columns. 64 16-bit values are one 128-byte line.
HALF = Blocks(rows=128, columns=256, width=64, warps=8)
# Exact float32 products run on the ordinary cores, out of registers: a smaller tile.
FULL = Blocks(rows=64, columns=64, width=32, warps=4)
# Columns of a split at most, eight tiles of HALF: 4,096 rows make 500 (V = 32,000) to 4,000
# programs, so that the last, partly filled round on 100 to 150 processors is a small part.
SPLIT = 2048
# Rows of a program of the merge, which is all latency.
MERGE_ROWS = 128
# Logits of a row that a program has at once; each of its lanes has a maximum and a sum of its own.
ROW_TILE = 4096
# Loads in flight: three hide L2's latency where shared memory holds them (results are the same).
STAGES = 3
# Fused multiply-adds, by name: triton's own default differs between its versions.
OPTIONS = {"enable_fp_fusion": True}
# The oldest generation that has bfloat16 and asynchronous copies.
OLDEST_CAPABILITY = (8, 0)


def available() -> bool:
    """Whether the kernels can run here: triton, and a CUDA device or its interpreter."""
    if importlib.util.find_spec("triton") is None:
        return False
    if os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y"):
        return True
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= OLDEST_CAPABILITY


def log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """log P(targets) [R] in float32 (nats) for hidden [R, H], weight [V, H] and targets [R].

    Logits are z = scale * (h W^T + b), capped to c * tanh(z / c) with a softcap c. A row with NaN
    in it, and a target outside [0, V), give NaN.
    """
    rows, width = hidden.shape
    vocabulary = weight.shape[0]
    assert hidden.dtype == weight.dtype, f"hidden is {hidden.dtype}, weight {weight.dtype}"
    assert weight.shape[1] == width and targets.shape == (rows,)
    result = torch.full((rows,), torch.nan, dtype=torch.float32, device=hidden.device)
    if rows == 0:
        return result
    hidden, weight = (t if t.stride(1) == 1 else t.contiguous() for t in (hidden, weight))
    blocks = FULL if hidden.dtype == torch.float32 else HALF
    tiles = -(-vocabulary // blocks.columns)
    splits = -(-vocabulary // SPLIT)
    maxima, sums = result.new_empty((2, splits, rows)).unbind()
    partials, merge, _, interpreted = _kernels()
    # Triton launches on the current device, whatever device the tensors are on.
    with torch.cuda.device(hidden.device) if hidden.is_cuda else nullcontext():
        partials[(-(-rows // blocks.rows), splits)](
            hidden, weight, bias, targets.contiguous(), maxima, sums, result,
            rows, vocabulary, hidden.stride(0), weight.stride(0),
            WIDTH=width, TILES=-(-tiles // splits), SCALE=float(scale), SOFTCAP=softcap or 0.0,
            UPCAST=interpreted, BLOCK_R=blocks.rows, BLOCK_V=blocks.columns, BLOCK_H=blocks.width,
            num_warps=blocks.warps, num_stages=_stages(hidden, blocks), **OPTIONS,
        )  # fmt: skip
        merge[(-(-rows // MERGE_ROWS),)](
            maxima, sums, result, rows, SPLITS=splits, BLOCK_R=MERGE_ROWS, **OPTIONS
        )
    return result


def log_sum_exp(logits: Tensor) -> Tensor:
    """log sum exp [R] of float32 logits [R, V], which are read once."""
    result = torch.empty(logits.shape[0], device=logits.device)
    tiles = -(-logits.shape[1] // ROW_TILE)
    with torch.cuda.device(logits.device) if logits.is_cuda else nullcontext():
        _kernels()[2][(len(result),)](
            logits, result, logits.shape[1], logits.stride(0), TILES=tiles, TILE=ROW_TILE,
            num_warps=8, **OPTIONS,
        )  # fmt: skip
    return result


def _stages(hidden: Tensor, blocks: Blocks) -> int:
    """Loads in flight that the device's shared memory holds."""
    if not hidden.is_cuda:
        return STAGES
    device = torch.cuda.get_device_properties(hidden.device)
    held: int = getattr(device, "shared_memory_per_block_optin", 96 << 10)
    stage = (blocks.rows + blocks.columns) * blocks.width * hidden.element_size()
    return max(1, min(STAGES, held // stage))


@functools.cache
def _kernels() -> tuple[Any, Any, Any, bool]:
    """The kernels, and whether they run in the interpreter."""
    triton = importlib.import_module("triton")
    globals()["tl"] = importlib.import_module("triton.language")
    # One compiled program for every number of rows.
    partials = triton.jit(_partials, do_not_specialize=["rows"])
    merge = triton.jit(_merge, do_not_specialize=["rows"])
    rows = triton.jit(_row_lse)
    return partials, merge, rows, not isinstance(partials, triton.runtime.JITFunction)


def _partials(
    hidden: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    targets: tl.tensor,
    maxima: tl.tensor,
    sums: tl.tensor,
    picked: tl.tensor,
    rows: tl.tensor,
    vocabulary: tl.tensor,
    hidden_stride: tl.tensor,
    weight_stride: tl.tensor,
    WIDTH: tl.constexpr,
    TILES: tl.constexpr,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
) -> None:
    """Maximum and sum of exponentials of a row block over one split; logits of targets in it."""
    split = tl.program_id(1)  # neighbours in time share a split, and so its weights in L2
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = row < rows
    target = tl.load(targets + row, mask=inside, other=-1)
    # Rows and columns past the end repeat the last one: no mask in the inner loop.
    hidden_rows = hidden + tl.minimum(row, rows - 1).to(tl.int64)[:, None] * hidden_stride
    begin = split * (TILES * BLOCK_V)
    end = tl.minimum(begin + TILES * BLOCK_V, vocabulary)
    maximum = tl.full((BLOCK_R,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_R,), tl.float32)
    logit = tl.zeros((BLOCK_R,), tl.float32)
    z = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
    steps: tl.constexpr = (WIDTH + BLOCK_H - 1) // BLOCK_H
    # One loop over tiles and steps, so that the loads of a tile run under the end of the last one.
    for i in range(0, TILES * steps):
        column = begin + (i // steps) * BLOCK_V + tl.arange(0, BLOCK_V)
        k = (i % steps) * BLOCK_H + tl.arange(0, BLOCK_H)
        real = tl.minimum(column, vocabulary - 1)
        weight_rows = weight + real.to(tl.int64)[None, :] * weight_stride
        if WIDTH % BLOCK_H == 0:
            h = tl.load(hidden_rows + k[None, :])
            w = tl.load(weight_rows + k[:, None])
        else:
            h = tl.load(hidden_rows + k[None, :], mask=k[None, :] < WIDTH, other=0.0)
            w = tl.load(weight_rows + k[:, None], mask=k[:, None] < WIDTH, other=0.0)
        if UPCAST:  # the interpreter's dot multiplies the bit patterns of bfloat16
            h = h.to(tl.float32)
            w = w.to(tl.float32)
        z = tl.dot(h, w, z, input_precision="ieee")
        if i % steps == steps - 1:  # the tile's logits are whole
            if bias is not None:
                z += tl.load(bias + real).to(tl.float32)[None, :]
            if SCALE != 1.0:
                z *= SCALE
            if SOFTCAP != 0.0:  # c * tanh(z / c); an infinite exponential gives c
                z = SOFTCAP - 2.0 * SOFTCAP / (tl.exp(z * (2.0 / SOFTCAP)) + 1.0)
            logit += tl.sum(tl.where(column[None, :] == target[:, None], z, 0.0), axis=1)
            z = tl.where(column[None, :] < vocabulary, z, -float("inf"))
            higher = tl.maximum(maximum, tl.max(z, axis=1))
            level = tl.where(higher == -float("inf"), 0.0, higher)  # not -inf - -inf
            total = total * tl.exp(maximum - level) + tl.sum(tl.exp(z - level[:, None]), axis=1)
            maximum = higher
            z = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
    place = split.to(tl.int64) * rows + row
    tl.store(maxima + place, maximum, mask=inside)
    tl.store(sums + place, total, mask=inside)
    # Only the split that holds the target writes its logit.
    tl.store(picked + row, logit, mask=inside & (target >= begin) & (target < end))


def _merge(
    maxima: tl.tensor,
    sums: tl.tensor,
    picked: tl.tensor,
    rows: tl.tensor,
    SPLITS: tl.constexpr,
    BLOCK_R: tl.constexpr,
) -> None:
    """Turns the targets' logits into log-probabilities, in place; splits in rising order."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = row < rows
    maximum = tl.full((BLOCK_R,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_R,), tl.float32)
    for split in range(0, SPLITS):
        place = row.to(tl.int64) + split * rows
        part = tl.load(maxima + place, mask=inside, other=0.0)
        higher = tl.maximum(maximum, part)
        level = tl.where(higher == -float("inf"), 0.0, higher)
        total = total * tl.exp(maximum - level)
        total += tl.load(sums + place, mask=inside, other=1.0) * tl.exp(part - level)
        maximum = higher
    result = tl.load(picked + row, mask=inside, other=0.0) - (maximum + tl.log(total))
    tl.store(picked + row, result, mask=inside)


def _row_lse(
    logits: tl.tensor,
    result: tl.tensor,
    vocabulary: tl.tensor,
    stride: tl.tensor,
    TILES: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """One row: a running maximum and sum a lane, and at the end one of all lanes."""
    row = tl.program_id(0)
    begin = logits + row.to(tl.int64) * stride
    lane = tl.arange(0, TILE)
    maximum = tl.full((TILE,), -float("inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    for tile in range(0, TILES):
        column = tile * TILE + lane
        z = tl.load(begin + column, mask=column < vocabulary, other=-float("inf"))
        higher = tl.maximum(maximum, z)
        level = tl.where(higher == -float("inf"), 0.0, higher)  # not -inf - -inf
        total = total * tl.exp(maximum - level) + tl.exp(z - level)
        maximum = higher
    top = tl.max(maximum, axis=0)
    tl.store(result + row, top + tl.log(tl.sum(total * tl.exp(maximum - top), axis=0)))
