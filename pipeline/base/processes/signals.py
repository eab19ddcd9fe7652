"""SIGTERM and Ctrl-C end the work wherever they hit it, even where an exception is swallowed."""

import _thread
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any, NoReturn

_REPEAT = 0.1  # seconds until an interrupt that was swallowed is sent again


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, once more where a `__del__` or a callback lost it."""
    signal.signal(signal.SIGTERM, _interrupt)
    before = sys.unraisablehook

    def swallowed(what: Any) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            before(what)
            return
        again = Timer(_REPEAT, _thread.interrupt_main, [signal.SIGTERM])
        again.daemon = True
        again.start()

    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
