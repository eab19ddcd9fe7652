"""Log-probabilities of target tokens from hidden states, without [rows, vocabulary] in memory.

log P(t) = z_t - log sum_v exp(z_v) with z = scale * (h W^T + b), capped to c * tanh(z / c) where
the model does so. The sum runs over vocabulary tiles with a running maximum in float32, in a fixed
order, so that a row's value depends on that row alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .products import linear

ROW_BLOCK = {"cpu": 512, "cuda": 2048}
VOCABULARY_TILE = {"cpu": 1536, "cuda": 1 << 30}
# BLAS takes another kernel, with other last bits, for a handful of rows.
ROW_MULTIPLE = 64


@dataclass(frozen=True, slots=True)
class Head:
    """The output layer: weight [V, H], bias [V] or None, and what is done to its logits."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """log P(targets) [R] in float32 (nats) for hidden [R, H] and targets [R]."""
        kind, rows = hidden.device.type, hidden.shape[0]
        block = ROW_BLOCK.get(kind, 2048)
        # A GPU's library picks its kernels by the number of rows: there every block is whole.
        multiple = ROW_MULTIPLE if kind == "cpu" else block
        blocks = zip(
            torch.split(pad_rows(hidden, multiple), block),
            torch.split(pad_rows(targets, multiple), block),
            strict=True,
        )
        return torch.cat([self._target_logits(h, t) - self._lse(h) for h, t in blocks])[:rows]

    def _lse(self, hidden: Tensor) -> Tensor:
        """log sum exp over the vocabulary [r] of a block of rows [r, H]."""
        maximum = torch.full((hidden.shape[0],), -torch.inf, device=hidden.device)
        total = torch.zeros_like(maximum)
        size = self.weight.shape[0]
        tile = min(VOCABULARY_TILE.get(hidden.device.type, 1 << 30), size)
        if hidden.device.type == "cpu":
            hidden = hidden.float()
        for begin in range(0, size, tile):
            logits = self._logits(hidden, slice(begin, min(begin + tile, size)))
            higher = torch.maximum(maximum, logits.amax(dim=1))
            total *= torch.exp(maximum - higher)
            total += logits.sub_(higher[:, None]).exp_().sum(dim=1)
            maximum = higher
        return maximum + total.log()

    def _logits(self, hidden: Tensor, columns: slice) -> Tensor:
        """Float32 logits [r, v] of a tile of the vocabulary."""
        weight = self.weight[columns]
        if hidden.device.type == "cpu":  # which would round half-precision logits
            weight = weight.float()
        if hidden.dtype != torch.float32:
            logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
        else:
            logits = linear(hidden, weight)
        return self._shape(logits, None if self.bias is None else self.bias[columns])

    def _target_logits(self, hidden: Tensor, targets: Tensor) -> Tensor:
        weight = self.weight.index_select(0, targets).float()
        logits = (hidden.float() * weight).sum(dim=1)
        return self._shape(logits, None if self.bias is None else self.bias[targets])

    def _shape(self, logits: Tensor, bias: Tensor | None) -> Tensor:
        if bias is not None:
            logits += bias.float()
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits


def pad_rows(rows: Tensor, multiple: int = ROW_MULTIPLE) -> Tensor:
    """Rows [R, ...] filled up with zeros to a multiple."""
    missing = -rows.shape[0] % multiple
    if not missing:
        return rows
    return torch.cat((rows, rows.new_zeros((missing, *rows.shape[1:]))))
