"""A server as a child process that dies with us, its whole process group with it."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx2

from ....base.progress import say
from ....errors import CurateError

POLL = 0.2
INTERVAL = 15.0  # seconds between lines that say that we wait
GRACE = 10.0  # seconds from SIGTERM to SIGKILL
LINES, TAIL = 12, 1 << 16  # of the log in an error, and bytes to find them in
KEYS = ("CURATE_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY")  # the last would lock us out

# Runs between us and the server. Its standard input ends when we close it or die, however that
# happens; then, or when the server is gone, it ends the process group, of which it is the leader.
GUARD = """
import os, signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, lambda *_: None)
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
def watch():
    sys.stdin.buffer.read()
    end(float(sys.argv[1]))
def end(grace):
    os.killpg(0, signal.SIGTERM)
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
how = f"exit code {code}" if code >= 0 else f"signal {-code}"
print(f"[the server has ended: {how}]", flush=True)
end(0)
"""


class Server:
    """A running command, `--host 127.0.0.1 --port N` added to it, and its log.

    Everything it starts is in one process group, which ends when this process does.
    """

    def __init__(self, command: Sequence[str], *, name: str) -> None:
        self.name = name
        self.port = _free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="curate-server-"))
        self.log = self.folder / "server.log"
        self.since = time.monotonic()  # when it was started; when it was ready, once it is
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        environment = {key: value for key, value in os.environ.items() if key not in KEYS}
        environment |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                (sys.executable, "-I", "-S", "-c", GUARD, str(GRACE), *command, *where),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def alive(self) -> bool:
        """Whether the server runs; it may not be ready yet."""
        return self._process.poll() is None

    async def ready(self, timeout: float) -> None:
        """Wait until /health answers. CurateError when it ends first, or the time is over."""
        said = begun = self.since
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=5.0) as client:
            while not await self._healthy(client):
                now = time.monotonic()
                if not self.alive:
                    raise self.failure("ended before it was ready")
                if now - begun > timeout:
                    await self.kill()
                    raise self.failure(f"was not ready after {timeout:.0f} s")
                if now - said >= INTERVAL:
                    said = now
                    waited = now - begun
                    say(f"waiting for {self.name}, {waited:.0f} s (log: {self.log})")
                await asyncio.sleep(POLL)
        self.since = time.monotonic()

    async def _healthy(self, client: httpx2.AsyncClient) -> bool:
        try:
            answer = await client.get(f"http://127.0.0.1:{self.port}/health")
        except httpx2.TransportError:
            return False
        return answer.status_code == 200 and self.alive

    def failure(self, what: str) -> CurateError:
        """What a user is told: the end of the log and where the rest of it is."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL))
            lines = log.read().decode("utf-8", "replace").splitlines()[-LINES:]
        tail = "\n".join(f"  {line[:300]}" for line in lines) or "  (nothing)"
        return CurateError(f"{self.name} {what}; the end of its log, {self.log}:\n{tail}")

    async def died(self, within: float) -> bool:
        """Whether it ends in so many seconds: a connection breaks before the process is gone."""
        until = time.monotonic() + within
        while self.alive and time.monotonic() < until:
            await asyncio.sleep(POLL / 4)
        return not self.alive

    async def stop(self, *, keep_log: bool = False) -> None:
        """End the group, politely first; returns when its leader is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self.died(GRACE + 5)
        await self.kill()
        if not keep_log:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def kill(self) -> None:
        """End the group at once, also where its leader is gone already."""
        with suppress(ProcessLookupError, PermissionError):  # nobody, or zombies only, left in it
            os.killpg(self._process.pid, signal.SIGKILL)
        await self.died(GRACE)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
