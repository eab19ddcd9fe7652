"""Spans -> mean negative log-likelihoods, each distinct span computed once."""

import ctypes
import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ..base.processes.prefetch import prefetch
from ..models.loading import is_out_of_memory
from .forward.head import ROW_MULTIPLE
from .forward.packing import Ids, Pack, Span, SpanKey, distinct, plan
from .forward.widened import Widened
from .model import Student, device_errors, first_line

log = logging.getLogger(__name__)

DEFAULT_BUDGET = {"cpu": 4096, "cuda": 32768}
GPU_DEPTH = 4
# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
Tick = Callable[[int], None]
Values = npt.NDArray[np.float64]
Compute = Callable[[Pack], torch.Tensor]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class NoMemory:
    """What a device said that ran out of memory."""

    said: str


@dataclass(frozen=True, slots=True)
class _Work:
    """What is computed of a row, and how its spans share what comes out."""

    compute: Compute
    share: Callable[[Pack, Values], Iterable[Any]]


class Scorer:
    """Scores spans with one student; may be called from several threads.

    On a CPU every row is the work of one thread: cores share no row, wait for nobody, and how many
    there are changes no bit. On a GPU rows are queued ahead of who reads their results. When memory
    runs out, the token budget of a row halves and the work goes on.
    """

    def __init__(
        self, student: Student, headers: Sequence[Ids] = (), *, batch_tokens: int | None = None
    ) -> None:
        self.student = student
        self.headers = tuple(headers) if student.packed else ()
        self.budget = batch_tokens or DEFAULT_BUDGET[student.device.type]
        self.halved = False  # on a GPU other rows give other last bits
        self.too_large: dict[SpanKey, str] = {}  # what found no memory, and why
        self.tokens = self.sequences = 0
        self._lock = Lock()
        self._queueing = Lock()  # forwards of two threads at once would take twice the memory
        self._threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        if student.device.type == "cpu":
            _keep_memory()
            alone = partial(torch.set_num_threads, 1)
            self._pool = ThreadPoolExecutor(self._threads, "row", initializer=alone)

    def nll(
        self,
        spans: Sequence[Span],
        tick: Tick = lambda _: None,
        *,
        log_probs: Compute | None = None,
    ) -> Values:
        """Mean NLL in nats a token [N], NaN where the model gave none; `tick(number)` as they come.

        Bitwise a function of each span alone: not of its neighbours, their order or, on a CPU, the
        budget; on a GPU rows are filled up to it, so that it is the same for all.
        `log_probs` replaces the student's own.
        """
        return self.mean_and_first(spans, tick, log_probs=log_probs)[:, 0]

    def mean_and_first(
        self,
        spans: Sequence[Span],
        tick: Tick = lambda _: None,
        *,
        log_probs: Compute | None = None,
    ) -> Values:
        """`nll`, and beside it the NLL of each span's first target alone [N, 2]."""
        work = _Work(log_probs or self.student.log_probs, _nlls)
        found = self._each(spans, work, tick)
        missing = (np.nan, np.nan)
        values = [missing if nlls is None else nlls for nlls in found]
        return np.array(values, dtype=np.float64).reshape(-1, 2)

    def rounding_noise(self, spans: Sequence[Span]) -> float:
        """The standard deviation (nats) of a mean NLL's error in half precision.

        The same weights are run once more with float32 arithmetic.
        """
        if not spans:
            return 0.0

        def widened(pack: Pack) -> torch.Tensor:
            with Widened():
                return self.student.log_probs(pack)

        error = self.nll(spans) - self.nll(spans, log_probs=widened)
        known = error[np.isfinite(error)]
        return float(np.sqrt((known**2).mean())) if len(known) else 0.0

    def token_nlls(self, spans: Sequence[Span]) -> list[Values | None]:
        """The NLL of each scored token in nats [n]; None where memory ran out.

        A function of each span alone, as `nll` is.
        """
        return self._each(spans, _Work(self.student.log_probs, _token_nlls))

    def mean_states(self, spans: Sequence[Span]) -> list[Values | None]:
        """The mean last hidden state [D] of the positions that predict each span's targets.

        None where memory ran out. A function of each span alone, as `nll` is.
        """

        def means(pack: Pack) -> torch.Tensor:
            parts = torch.split(self.student.hidden(pack), list(pack.lengths))
            return torch.stack([part.double().mean(dim=0) for part in parts])

        return self._each(spans, _Work(means, lambda _, rows: rows))

    def _each(self, spans: Sequence[Span], work: _Work, tick: Tick = lambda _: None) -> list[Any]:
        """What the work makes of each span; None where memory ran out."""
        unique, where = distinct(spans)
        result: list[Any] = [None] * len(unique)
        todo = list(range(len(unique)))
        while todo:
            todo = self._round(unique, todo, result, tick, work)
        return [result[index] for index in where]

    def close(self) -> None:
        """End the threads, and let torch use all of them again."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)

    def _round(
        self, spans: Sequence[Span], todo: Sequence[int], result: list[Any], tick: Tick, work: _Work
    ) -> list[int]:
        """Work on the spans `todo`; those that found no memory come back."""
        chosen = [spans[index] for index in todo]
        budget = self.budget if self.student.packed else 0
        left: list[int] = []
        for pack, values in self._computed(self._rows(chosen, budget), work.compute):
            if not isinstance(values, NoMemory):
                for index, value in zip(pack.spans, work.share(pack, values), strict=True):
                    result[todo[index]] = value
                tick(len(pack.spans))
            elif len(pack.spans) > 1 or pack.width > max(len(pack.ids), ROW_MULTIPLE):
                left += [todo[index] for index in pack.spans]
            else:
                self._give_up(spans[todo[pack.spans[0]]], values)
        if left:
            self._halve(budget)
        return left

    def _give_up(self, span: Span, error: NoMemory) -> None:
        device = self.student.device
        reason = f"{len(span.ids) - 1} tokens do not fit into the memory of {device} ({error.said})"
        self.too_large[span.key] = reason
        log.warning("a sequence has no score: %s", reason)

    def _rows(self, spans: Sequence[Span], budget: int) -> Iterator[Pack]:
        rows = plan(spans, self.headers, budget)
        if self._pool is not None:
            return rows
        # A GPU's kernels are picked by a row's length: all rows have the same, but for sequences
        # that are longer by themselves.
        return (
            replace(row, width=budget if len(row.ids) <= budget else ROW_MULTIPLE) for row in rows
        )

    def _halve(self, budget: int) -> None:
        with self._lock:
            if self.budget >= budget:  # another thread may have done so
                self.budget, self.halved = max(budget // 2, 1), True
                log.warning(
                    "out of memory: rows of %d tokens from now on, which may change last bits",
                    self.budget,
                )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _computed(
        self, packs: Iterable[Pack], log_probs: Compute
    ) -> Iterator[tuple[Pack, Values | NoMemory]]:
        """Each row with its targets' log-probabilities, or that memory ran out."""
        guarded = partial(_in_memory, self.student.device)

        def start(pack: Pack) -> Callable[[], Values | NoMemory]:
            if self._pool is not None:
                return self._pool.submit(guarded, lambda: _copied(log_probs(pack))()).result
            with self._queueing:
                copied = guarded(lambda: _copied(log_probs(pack)))
            return (lambda: copied) if isinstance(copied, NoMemory) else partial(guarded, copied)

        depth = GPU_DEPTH if self._pool is None else 2 * self._threads
        for pack, values in prefetch(packs, start, depth):
            with self._lock:  # several threads may count
                self.tokens += len(pack.ids)
                self.sequences += 0 if isinstance(values, NoMemory) else len(pack.spans)
            yield pack, values


def _keep_memory() -> None:
    """Let glibc keep freed memory: else each tensor of a row is paid for in page faults again.

    Blocks below 32 MiB (its largest threshold) come from one heap that keeps 512 MiB when idle.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 512 << 20),
                                 (M_ARENA_MAX, 1)):  # fmt: skip
            libc.mallopt(parameter, value)


def _copied(values: torch.Tensor) -> Callable[[], Values]:
    """Queue a row's copy to the host right behind the row; what is returned waits for it alone."""
    if not values.is_cuda:
        found: Values = values.double().numpy()
        return lambda: found
    host = torch.empty(values.shape, dtype=torch.float64, pin_memory=True)
    host.copy_(values.double(), non_blocking=True)
    event: Any = torch.cuda.Event  # it has no types
    done = event()
    done.record(torch.cuda.current_stream(values.device))

    def wait() -> Values:
        done.synchronize()
        there: Values = host.numpy()
        return there

    return wait


def _in_memory(device: torch.device, work: Callable[[], Result]) -> Result | NoMemory:
    """What the work gives, or that memory ran out. CurateError where the device itself failed."""
    with device_errors(device):
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return NoMemory(first_line(error))


def _token_nlls(pack: Pack, values: Values) -> Iterator[Values]:
    """The NLLs of each span of a row."""
    end = 0
    for length in pack.lengths:
        begin, end = end, end + length
        yield -values[begin:end]


def _nlls(pack: Pack, values: Values) -> Iterator[tuple[float, float]]:
    """The mean NLL and the first target's of each span of a row; float64 sums of its tokens."""
    for nlls in _token_nlls(pack, values):
        yield nlls.sum() / len(nlls), nlls[0]
