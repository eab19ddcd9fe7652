"""SIGTERM and Ctrl-C end the work wherever they hit it, even where an exception is swallowed."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer, main_thread
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
        again = Timer(_REPEAT, _send_again)
        again.daemon = True
        again.start()

    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = before


def _send_again() -> None:
    """A real signal, as it ends what the main thread waits for."""
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        signal.pthread_kill(main_thread().ident or 0, signal.SIGTERM)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
