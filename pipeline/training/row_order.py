"""The order of an epoch's rows where several processes share them."""

import math
from collections.abc import Iterator


class EvenOrder:
    """The rows at random, as one process would take them, then fillers up to a full round.

    Left to themselves the libraries repeat rows of the epoch's beginning instead. The filler is the
    row behind the last: it has no label, so it trains nothing.
    """

    def __init__(self, rows: int, *, round_of: int, seed: int) -> None:
        self.rows, self.round_of, self.seed, self.epoch = rows, round_of, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.rows / self.round_of) * self.round_of

    def __iter__(self) -> Iterator[int]:
        import torch

        chance = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.rows, generator=chance).tolist()
        yield from [self.rows] * (len(self) - self.rows)
