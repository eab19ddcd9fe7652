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


class FullRounds:
    """The rows at random, in whole rounds of `round_of` (a micro-batch of each process).

    Without a seed they come in their own order.

    Pairs have no label that a filler could lack, so what is left over at an epoch's end is left
    out. With `halves`, row 2i is the chosen and 2i + 1 the rejected answer of pair i: they
    alternate, and those of one pair are half an epoch apart.
    """

    def __init__(self, rows: int, *, round_of: int, seed: int | None, halves: bool) -> None:
        self.rows, self.round_of, self.seed, self.epoch = rows, round_of, seed, 0
        self.halves = halves

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows // self.round_of * self.round_of

    def __iter__(self) -> Iterator[int]:
        import torch

        number = self.rows // 2 if self.halves else self.rows
        order = list(range(number))
        if self.seed is not None:
            chance = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(number, generator=chance).tolist()
        if self.halves:
            opposite = [*order[number // 2 :], *order[: number // 2]]
            both = zip(order, opposite, strict=True)
            order = [row for one, other in both for row in (2 * one, 2 * other + 1)]
        yield from order[: len(self)]
