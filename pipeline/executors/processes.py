"""Work over items in one process a device; what a dead process had in hand, another takes over."""

import multiprocessing
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from ..base.progress import say
from ..errors import CurateError
from ..models.loading import is_out_of_memory

Item = TypeVar("Item")
Setup = Callable[..., Callable[[Any], None]]
ATTEMPTS = 3
"""How often an item is begun before its worker's death is taken to be the item's fault."""


class WorkerFailed(RuntimeError):
    """A worker raised what is no user's error: a bug, with the worker's traceback."""


def over_processes(
    setup: Setup, devices: Sequence[str], arguments: tuple[Any, ...], items: Sequence[Item]
) -> Iterator[Item]:
    """Items as they are done, in any order. `setup(device, *arguments)` makes a worker's function.

    Items are leased one at a time, so that a fast device does more of them. Raises a worker's
    CurateError, one of its own when an item kills three workers, and WorkerFailed for all else that
    a worker raises.
    """
    pool = _Pool(setup, arguments, deque(items))
    try:
        for device in devices[: len(items)]:
            pool.start(device)
        yield from pool.results()
    finally:
        pool.stop()


class _Pool:
    """The living workers, each with the device it is on and the item it has in hand."""

    def __init__(self, setup: Setup, arguments: tuple[Any, ...], items: deque[Any]) -> None:
        self.setup, self.arguments, self.items = setup, arguments, items
        self.begun: Counter[Any] = Counter()
        self.workers: dict[Connection, tuple[BaseProcess, str, Any]] = {}

    def start(self, device: str) -> None:
        # A fork would share CUDA's state, which it cannot.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.setup, device, self.arguments), daemon=True
        )
        process.start()
        theirs.close()
        self._lease(ours, process, device)

    def _lease(self, pipe: Connection, process: BaseProcess, device: str) -> None:
        """Give a free worker its next item, or let it end."""
        if not self.items:
            self.workers.pop(pipe, None)
            pipe.close()
            process.join()
            return
        item = self.items.popleft()
        self.begun[item] += 1
        self.workers[pipe] = (process, device, item)
        with suppress(BrokenPipeError):  # dead already: its pipe says so when it is read
            pipe.send(item)

    def results(self) -> Iterator[Any]:
        while self.workers:
            for pipe in wait(list(self.workers)):
                assert isinstance(pipe, Connection)
                process, device, item = self.workers[pipe]
                try:
                    error = pipe.recv()
                except (EOFError, ConnectionResetError):
                    self._bury(pipe)
                    continue
                if error is not None:
                    raise error
                self._lease(pipe, process, device)
                yield item

    def _bury(self, pipe: Connection) -> None:
        process, device, item = self.workers.pop(pipe)
        process.join()
        pipe.close()
        if self.begun[item] >= ATTEMPTS:
            raise CurateError(
                f"{ATTEMPTS} workers died over {item} (the last on {device}, exit code "
                f"{process.exitcode}); what was finished is kept"
            )
        say(f"note: the worker on {device} died (exit code {process.exitcode}); starting another")
        self.items.appendleft(item)
        self.start(device)

    def stop(self) -> None:
        for pipe, (process, _, _) in self.workers.items():
            process.terminate()
            process.join()
            pipe.close()
        self.workers.clear()


def _serve(pipe: Connection, setup: Setup, device: str, arguments: tuple[Any, ...]) -> None:
    """A worker: one item after another, until the pipe is closed or one fails."""
    try:
        function = setup(device, *arguments)
        while True:
            function(pipe.recv())
            pipe.send(None)
    except EOFError:
        return
    except CurateError as error:
        pipe.send(error)
    except Exception as error:  # noqa: BLE001 - it is the caller's to raise
        failed = WorkerFailed(f"on {device}:\n{traceback.format_exc()}")
        pipe.send(out_of_memory(error, device) or failed)


def out_of_memory(error: Exception, device: str) -> CurateError | None:
    """The error of a device without memory enough, in one sentence; None for any other."""
    if not is_out_of_memory(error):
        return None
    said = str(error).strip().partition("\n")[0][:300]
    return CurateError(
        f"out of memory on {device}{f' ({said})' if said else ''}: take a smaller --batch-tokens, "
        "--dtype bfloat16 or another --device"
    )
