"""An interrupt that hits a destructor is not lost."""

import os
import signal
import time

import pytest

from curate.pipeline.base.processes.signals import interruptible


class Slow:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def test_one_that_a_destructor_swallows_comes_again() -> None:
    reached, begun = False, time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        Slow()
        reached = True
        time.sleep(20)
    assert reached and time.monotonic() - begun < 15


def test_one_between_two_steps_comes_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    assert time.monotonic() - begun < 15
