"""Work over items in one process a device; what a dead process had in hand, another takes over."""

import multiprocessing
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Lock
from typing import Any, TypeVar

from ..base.progress import say
from ..errors import CurateError
from ..models.loading import is_out_of_memory

Item = TypeVar("Item")
Setup = Callable[..., Callable[[Any], None]]
ATTEMPTS = 3
"""How often an item is begun before its worker's death is taken to be the item's fault."""
IN_HAND = 2
"""Items of a worker, each in a thread: one is prepared while the other keeps the device busy."""


class WorkerFailed(RuntimeError):
    """A worker raised what is no user's error: a bug, with the worker's traceback."""


def over_processes(
    setup: Setup, devices: Sequence[str], arguments: tuple[Any, ...], items: Sequence[Item]
) -> Iterator[Item]:
    """Items as they are done, in any order. `setup(device, *arguments)` makes a worker's function.

    A worker has two items in hand while others are left for all, and its function is called from
    two threads; a fast device does more of them. Raises a worker's CurateError, one of its own when
    an item kills three workers, and WorkerFailed for all else that a worker raises.
    """
    pool = _Pool(setup, arguments, deque(items), len(devices))
    try:
        for device in devices[: len(items)]:
            pool.start(device)
        yield from pool.results()
    finally:
        pool.stop()


class _Pool:
    """The living workers, each with the device it is on and the items it has in hand."""

    def __init__(
        self, setup: Setup, arguments: tuple[Any, ...], items: deque[Any], devices: int
    ) -> None:
        self.setup, self.arguments, self.items, self.devices = setup, arguments, items, devices
        self.begun: Counter[Any] = Counter()
        self.workers: dict[Connection, tuple[BaseProcess, str, list[Any]]] = {}

    def start(self, device: str) -> None:
        # A fork would share CUDA's state, which it cannot.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.setup, device, self.arguments), daemon=True
        )
        process.start()
        theirs.close()
        self.workers[ours] = (process, device, [])
        self._lease(ours)

    def _lease(self, pipe: Connection) -> None:
        """Give a worker its next items, or let one that has none end."""
        process, _, held = self.workers[pipe]
        while self.items and (not held or self._may_prepare(held)):
            item = self.items.popleft()
            self.begun[item] += 1
            held.append(item)
            with suppress(BrokenPipeError):  # dead already: its pipe says so when it is read
                pipe.send(item)
        if not held:
            del self.workers[pipe]
            pipe.close()
            process.join()

    def _may_prepare(self, held: list[Any]) -> bool:
        """Whether a busy worker gets another item: none that others wait for, or that may kill."""
        enough = len(held) < IN_HAND and len(self.items) >= self.devices
        return enough and self.begun[self.items[0]] == 0 and self.begun[held[0]] == 1

    def results(self) -> Iterator[Any]:
        while self.workers:
            for pipe in wait(list(self.workers)):
                assert isinstance(pipe, Connection)
                try:
                    item, error = pipe.recv()
                except (EOFError, ConnectionResetError):
                    self._bury(pipe)
                    continue
                if error is not None:
                    raise error
                self.workers[pipe][2].remove(item)
                self._lease(pipe)
                yield item

    def _bury(self, pipe: Connection) -> None:
        process, device, held = self.workers.pop(pipe)
        process.join()
        pipe.close()
        for item in held:
            if self.begun[item] >= ATTEMPTS:
                raise CurateError(
                    f"{ATTEMPTS} workers died over {item} (the last on {device}, exit code "
                    f"{process.exitcode}); what was finished is kept"
                )
        say(f"note: the worker on {device} died (exit code {process.exitcode}); starting another")
        self.items.extendleft(reversed(held))
        self.start(device)

    def stop(self) -> None:
        for pipe, (process, _, _) in self.workers.items():
            process.terminate()
            process.join()
            pipe.close()
        self.workers.clear()


def _serve(pipe: Connection, setup: Setup, device: str, arguments: tuple[Any, ...]) -> None:
    """A worker: items as they come, until the pipe is closed or one fails."""
    try:
        function = setup(device, *arguments)
    except Exception as error:  # noqa: BLE001 - it is the caller's to raise
        pipe.send((None, _for_the_caller(error, device)))
        return
    one_at_a_time = Lock()

    def do(item: Any) -> None:
        error = _error_of(partial(function, item), device)
        with one_at_a_time:
            pipe.send((item, error))

    with ThreadPoolExecutor(IN_HAND, "item") as threads, suppress(EOFError):
        while True:
            threads.submit(do, pipe.recv())


def _error_of(work: Callable[[], None], device: str) -> Exception | None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - it is the caller's to raise
        return _for_the_caller(error, device)
    return None


def _for_the_caller(error: Exception, device: str) -> Exception:
    """What a worker's error is raised as: a sentence, or a bug with its traceback."""
    if isinstance(error, CurateError):
        return error
    said = "".join(traceback.format_exception(error))
    return out_of_memory(error, device) or WorkerFailed(f"on {device}:\n{said}")


def out_of_memory(error: Exception, device: str) -> CurateError | None:
    """The error of a device without memory enough, in one sentence; None for any other."""
    if not is_out_of_memory(error):
        return None
    said = str(error).strip().partition("\n")[0][:300]
    return CurateError(
        f"out of memory on {device}{f' ({said})' if said else ''}: take a smaller --batch-tokens, "
        "--dtype bfloat16 or another --device"
    )
