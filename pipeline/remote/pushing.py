"""Pushes a working folder while a command works in it, and whole at its end, whatever ends it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from ..base.progress import say
from ..errors import CurateError
from ..inputs.remote.urls import problem
from .lease import Lease, LeaseLost
from .mirror import Mirror

INTERVAL = 5.0  # seconds between two looks at what is to be pushed
LONGEST = 60.0  # seconds between two attempts while a store cannot be reached
RETRIES = (1.0, 2.0, 4.0, 8.0)  # seconds between the last attempts


@contextmanager
def push_while_working(mirror: Mirror, lease: Lease) -> Iterator[None]:
    """Push now and then, and all at the end.

    CurateError where that fails: the folder is whole, and is pushed by the next command.
    """
    mirror.guard = lease.check
    stop = Event()
    thread = Thread(target=_now_and_then, args=(mirror, stop), name="push", daemon=True)
    thread.start()
    failed: CurateError | None = None
    try:
        yield
    except CurateError as error:
        failed = error
        raise
    finally:
        stop.set()
        thread.join()
        _push_all(mirror, failed)


def _now_and_then(mirror: Mirror, stop: Event) -> None:
    wait = INTERVAL
    while not stop.wait(wait):
        try:
            mirror.push()
        except LeaseLost as error:
            say(f"note: {error}; nothing more is pushed")
            return
        except Exception as error:  # noqa: BLE001 - each client raises kinds of its own
            if wait == INTERVAL:
                say(
                    f"note: {problem(mirror.store.url, error)}; what is made waits in {mirror.home}"
                )
            wait = min(2 * wait, LONGEST)
        else:
            if wait > INTERVAL:
                say(f"note: {mirror.store.url} is reached again")
            wait = INTERVAL


def _push_all(mirror: Mirror, failed: CurateError | None) -> None:
    before = f"{failed}; and " if failed else ""
    for wait in (*RETRIES, None):
        try:
            mirror.push(last=True)
            return
        except LeaseLost as error:
            raise CurateError(
                f"{before}{error}; what was made here stays in {mirror.home}: the same command "
                "brings it there when the other has ended"
            ) from None
        except Exception as error:  # noqa: BLE001
            if wait is None:
                raise CurateError(
                    f"{before}{problem(mirror.store.url, error)}; what was made is whole in "
                    f"{mirror.home}, and the same command goes on from there"
                ) from None
            time.sleep(wait)
