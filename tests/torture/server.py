"""A teacher's server as a process of its own, which notes every request by the journal's key.

    python -m tests.torture.server NOTES HOST PORT SLOWEST

says its URL and serves until its standard input ends. A reply takes up to SLOWEST seconds; a file
`NOTES.slower` holds seconds that are added, `NOTES.silent` leaves requests without any answer.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..llm.faulty_server import Answer, FaultyServer, Received, completion
from ..llm.records_asked import key_of, naming

ROOT = Path(__file__).parents[2]


def serve(notes: Path, host: str, port: int, slowest: float) -> None:
    """Answer until nobody holds the other end of standard input."""
    log = os.open(notes, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    delays = random.Random(0)

    def noted(request: Received) -> Answer:
        os.write(log, f"{key_of(request)}\n".encode())
        if notes.with_suffix(".silent").exists():
            return replace(completion("never"), delay=3600)
        slower = notes.with_suffix(".slower")
        more = float(slower.read_text() or 0) if slower.exists() else 0.0
        return replace(completion(naming(request)), delay=delays.uniform(0, slowest) + more)

    with FaultyServer(noted, host=host, port=port) as server:
        print(server.url, flush=True)
        sys.stdin.read()


@dataclass(frozen=True)
class Served:
    """The running server."""

    url: str
    notes: Path

    def asked(self, begin: int = 0) -> list[str]:
        """The keys of the requests that came, from the begin-th on."""
        return self.notes.read_text().split()[begin:] if self.notes.exists() else []

    def counts(self) -> Counter[str]:
        """How often each was asked."""
        return Counter(self.asked())

    def slower(self, seconds: float) -> None:
        """All replies take so much longer from now on."""
        self.notes.with_suffix(".slower").write_text(str(seconds))

    def silent(self, on: bool) -> None:
        """Take requests, and answer none of them."""
        place = self.notes.with_suffix(".silent")
        place.touch() if on else place.unlink(missing_ok=True)

    def wait_for(self, requests: int, *, within: float = 60) -> None:
        """Until so many requests came in all."""
        end = time.monotonic() + within
        while len(self.asked()) < requests:
            assert time.monotonic() < end, f"{len(self.asked())} requests of {requests} came"
            time.sleep(0.005)


@contextmanager
def serving(
    notes: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    slowest: float = 0.004,
    within: Sequence[str] = (),
) -> Iterator[Served]:
    """The server, started; `within` are words such as `ip netns exec NAME`."""
    command = [*within, sys.executable, "-m", __name__, str(notes), host, str(port), str(slowest)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield Served(process.stdout.readline().strip(), notes)
        finally:
            process.kill()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
