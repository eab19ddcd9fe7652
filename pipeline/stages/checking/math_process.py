"""Mathematical expressions compared in a child process, which is replaced when one hangs it."""

import importlib.util
import json
import selectors
import subprocess
import sys
from typing import Self

from ...errors import CurateError
from .math_child import MathOutcome

SECONDS = 5
"""For reading either side, and for comparing them."""
_CHILD = "curate.pipeline.stages.checking.math_child"


def require_math() -> None:
    """CurateError, which says what to install, where math-verify is absent."""
    if importlib.util.find_spec("math_verify") is None:
        raise CurateError(
            "--checker math needs math-verify, which is not installed: "
            'pip install "curate-reflection[math]"'
        )


class MathProcess:
    """Compares one pair after another; the child starts with the first."""

    def __init__(self, seconds: int = SECONDS) -> None:
        self._seconds = seconds
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def compare(self, given: str, expression: str) -> MathOutcome:
        """The outcome; `timeout` also where the child had to be ended, or ended itself."""
        child = self._child or self._started()
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(json.dumps([given, expression, self._seconds]) + "\n")
            child.stdin.flush()
            line = child.stdout.readline() if self._answers(child) else ""
        except OSError:
            line = ""
        if line:
            outcome: MathOutcome = line.strip()  # type: ignore[assignment]
            return outcome
        self._end()
        return "timeout"

    def _started(self) -> subprocess.Popen[str]:
        self._child = subprocess.Popen(
            [sys.executable, "-m", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self._child

    def _answers(self, child: subprocess.Popen[str]) -> bool:
        """Whether a line comes within all timeouts together and the libraries' loading."""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            return bool(selector.select(3 * self._seconds + 60))

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.communicate()
        self._child = None
