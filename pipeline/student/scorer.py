"""Spans -> mean negative log-likelihoods, each distinct span computed once."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from .model import Student
from .sequences import Ids, Pack, Span, distinct, plan

DEFAULT_BUDGET = {"cpu": 2048, "cuda": 32768}
Tick = Callable[[int], None]


class Scorer:
    """Scores spans with one student, several rows at a time where that is a CPU.

    On a CPU every row is the work of one thread: cores share no row, wait for nobody, and how many
    there are changes no bit.
    """

    def __init__(
        self, student: Student, headers: Sequence[Ids] = (), *, batch_tokens: int | None = None
    ) -> None:
        self.student = student
        self.headers = tuple(headers) if student.packed else ()
        self.budget = batch_tokens or DEFAULT_BUDGET[student.device.type]
        self.tokens = 0
        self._threads = torch.get_num_threads() if student.device.type == "cpu" else 1

    def nll(self, spans: Sequence[Span], tick: Tick = lambda _: None) -> npt.NDArray[np.float64]:
        """Mean NLL in nats a token [N], NaN where the model gave none; `tick(number)` as they come.

        Bitwise a function of each span alone: not of its neighbours, their order or the budget.
        """
        unique, where = distinct(spans)
        result = np.full(len(unique), np.nan)
        budget = self.budget if self.student.packed else 0
        packs = plan(unique, self.headers, budget)
        with closing(self._computed(packs)) as computed:
            for pack, log_probs in computed:
                self.tokens += len(pack.ids)
                tick(_collect(pack, log_probs, unique, result))
        return result[where]

    def _computed(self, packs: Iterator[Pack]) -> Generator[tuple[Pack, torch.Tensor], None, None]:
        """Each row with its targets' log-probabilities, a few rows ahead of who takes them."""
        if self.student.device.type == "cpu":
            with _single_threaded(self._threads) as pool:
                yield from _ahead(packs, lambda p: pool.submit(self.student.log_probs, p).result,
                                  2 * self._threads)  # fmt: skip
        else:
            # The GPU runs behind the calls that queue its work; reading a result waits for it.
            yield from _ahead(packs, lambda p: partial(_same, self.student.log_probs(p)), 4)


def _same(value: torch.Tensor) -> torch.Tensor:
    return value


def _ahead(
    packs: Iterator[Pack], start: Callable[[Pack], Callable[[], torch.Tensor]], depth: int
) -> Iterator[tuple[Pack, torch.Tensor]]:
    """Start up to `depth` rows before the first of them is awaited; results in order."""
    waiting: deque[tuple[Pack, Callable[[], torch.Tensor]]] = deque()
    for pack in packs:
        waiting.append((pack, start(pack)))
        if len(waiting) >= depth:
            oldest, result = waiting.popleft()
            yield oldest, result()
    for oldest, result in waiting:
        yield oldest, result()


@contextmanager
def _single_threaded(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool in which each thread computes alone."""
    before = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1)) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)


def _collect(
    pack: Pack, log_probs: torch.Tensor, spans: Sequence[Span], result: npt.NDArray[np.float64]
) -> int:
    """Put the mean NLL of each span of a row in its place; float64 sums over its own tokens."""
    values = log_probs.double().cpu().numpy()
    end = 0
    for index in pack.spans:
        begin, end = end, end + spans[index].num_targets
        result[index] = -values[begin:end].mean()
    return len(pack.spans)
