"""Work over items on a Ray cluster: Ray Data places the workers, restarts them, feeds them."""

import logging
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from threading import Condition, Lock
from typing import Any, TypeVar

from ..base.progress import say
from ..errors import CurateError
from .processes import ATTEMPTS, IN_HAND, Setup, out_of_memory

Item = TypeVar("Item")
# Ray would write among our results; its log folder has what it says of workers as well.
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}


def require_ray() -> None:
    """Raise CurateError where Ray is not installed."""
    if find_spec("ray") is None:
        raise CurateError('Ray is not installed here: pip install "curate-reflection[ray]"')


def over_ray(
    setup: Setup,
    arguments: tuple[Any, ...],
    items: Sequence[Item],
    *,
    device: str,
    workers: int | None = None,
) -> Iterator[Item]:
    """Items as they are done, in any order. `setup(device, *arguments)` makes a worker's function.

    `device` is `cpu`, `cuda`, or `auto`: GPUs if the cluster has any. Each of the workers, by
    default as many as there are, has one GPU, or one CPU, and two items in hand. Raises a worker's
    CurateError, and one of its own when an item kills three workers or Ray itself fails.
    """
    if not items:
        return
    with connected() as ray:
        unit, number = _size(ray.cluster_resources(), device, workers, len(items))
        begun = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Begun).remote()
        given = {
            "setup": setup,
            "device": "cuda" if unit == "GPU" else "cpu",
            "arguments": arguments,
            "items": items,
            "begun": begun,
            "folder": os.getcwd(),
        }
        said: set[str] = set()  # each worker says it
        for row in _rows(ray, given, unit, number):
            lines = {line: None for line in row["said"].splitlines() if line not in said}
            said.update(lines)
            for line in lines:
                say(line)
            if row["error"]:
                raise CurateError(row["error"])
            yield items[row["item"]]


@contextmanager
def connected() -> Iterator[Any]:
    """Ray: the cluster that RAY_ADDRESS names, else one of this machine that ends with us."""
    require_ray()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        _connect(ray, os.environ.get("RAY_ADDRESS"))
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    where = {} if address else {"include_dashboard": False}
    ended = signal.getsignal(signal.SIGTERM)
    try:
        found = re.fullmatch(r"([^:/]+):(\d+)", address or "")
        if found:  # Ray itself would try for minutes, deaf to signals
            socket.create_connection((found[1], int(found[2])), timeout=10).close()
        with _hushed():
            ray.init(address or "local", logging_level="CRITICAL", log_to_driver=False, **where)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().partition("\n")[0]
        hint = " (where it asks for a token, set RAY_AUTH_MODE=token)" if address else ""
        place = f"at RAY_ADDRESS={address}" if address else "on this machine"
        raise CurateError(f"cannot reach Ray {place}: {reason}{hint}") from None
    except SystemExit:  # what Ray makes of SIGTERM until we have it back
        raise KeyboardInterrupt from None
    finally:
        with suppress(ValueError):  # not in the main thread, where Ray leaves it alone as well
            signal.signal(signal.SIGTERM, ended)


@contextmanager
def _hushed() -> Iterator[None]:
    """What is written to stderr below Python is lost, such as that a level of logging was set."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _size(
    has: Mapping[str, float], device: str, workers: int | None, items: int
) -> tuple[str, int]:
    """What a worker takes, GPU or CPU, and how many workers there are to be."""
    unit = "GPU" if device == "cuda" or (device == "auto" and has.get("GPU")) else "CPU"
    there = int(has.get(unit, 0))
    if not there and workers is None:
        raise CurateError(
            f"the Ray cluster has no {unit} now: give --workers N to wait for it to grow, or "
            "another --device"
        )
    number = min(workers or there, items)
    say(f"Ray: workers: {number}, one {unit} each; the cluster has {there}")
    return unit, number


def _rows(ray: Any, given: Mapping[str, Any], unit: str, number: int) -> Iterator[dict[str, Any]]:
    """What the workers return, as it comes."""
    from ray.data import ActorPoolStrategy, DataContext, from_items

    for handler in list(logging.getLogger("ray.data").handlers):
        if isinstance(handler, logging.StreamHandler):  # it writes to a file of its own as well
            logging.getLogger("ray.data").removeHandler(handler)
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a shard takes as long as it takes
    count = len(given["items"])
    done = from_items(list(range(count)), override_num_blocks=count).map_batches(
        _Worker,
        batch_size=1,
        # A queue before each worker would leave some idle at the end.
        compute=ActorPoolStrategy(
            min_size=1,
            max_size=number,
            initial_size=number,
            max_tasks_in_flight_per_actor=IN_HAND,
            max_concurrent_calls_per_actor=IN_HAND,
            enable_true_multi_threading=True,
        ),
        fn_constructor_kwargs=given,
        **({"num_gpus": 1} if unit == "GPU" else {"num_cpus": 1}),
    )
    try:
        for table in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from table.to_pylist()
    except (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException):
        raise  # our bug, with the worker's traceback
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CurateError(f"Ray ended the work ({reason}); what was finished is kept") from None


class _Begun:
    """Counts how often each item is begun; it outlives the workers."""

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()

    def before(self, item: int) -> int:
        """How often it was."""
        return self.times[item]

    def add(self, item: int) -> None:
        """It is begun."""
        self.times[item] += 1


class _Turns:
    """Lets items run side by side, but alone the one that may kill its worker."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.running = 0
        self.alone = False

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Begins once it may."""
        with self.changed:
            self.changed.wait_for(lambda: not self.alone and not (alone and self.running))
            self.running += 1
            self.alone = alone
        try:
            yield
        finally:
            with self.changed:
                self.running -= 1
                self.alone = False
                self.changed.notify_all()


class _Worker:
    """What Ray keeps on each GPU or CPU: it does an item a call, in several threads, and tells
    how that went."""

    def __init__(
        self,
        setup: Setup,
        device: str,
        arguments: tuple[Any, ...],
        items: Sequence[Any],
        begun: Any,
        folder: str,
    ) -> None:
        self.setup, self.device, self.arguments = setup, device, arguments
        self.items, self.begun = items, begun
        self.function: Callable[[Any], None] | None = None
        self.making, self.turns = Lock(), _Turns()
        self.heard = _Heard()
        logging.getLogger("curate").addHandler(self.heard)
        with suppress(OSError):  # names of files are the caller's
            os.chdir(folder)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """One item, by its place among all."""
        import ray

        place = int(batch["item"][0])
        item, begun = self.items[place], ray.get(self.begun.before.remote(place))
        with self.turns.turn(alone=begun > 0):
            if begun >= ATTEMPTS:
                error = f"{ATTEMPTS} workers died over {item}; what was finished is kept"
            else:
                ray.get(self.begun.add.remote(place))
                error = self._error_of(item)
        if begun and not error:
            self.heard.lines.append(f"note: a worker died with {item} in hand; it is done now")
        return {"item": [place], "error": [error], "said": [self.heard.taken()]}

    def _error_of(self, item: Any) -> str:
        """Do it; why it cannot be done, else nothing."""
        if self.device == "cpu":
            import torch

            torch.set_num_threads(1)
        try:
            with self.making:
                self.function = self.function or self.setup(self.device, *self.arguments)
            self.function(item)
        except CurateError as raised:
            return str(raised)
        except Exception as raised:
            if (found := out_of_memory(raised, self.device)) is None:
                raise
            return str(found)
        return ""


class _Heard(logging.Handler):
    """Keeps what a worker logs, for the caller to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append(record.getMessage())

    def taken(self) -> str:
        """What was kept, which is then forgotten."""
        lines, self.lines = self.lines, []
        return "\n".join(lines)
