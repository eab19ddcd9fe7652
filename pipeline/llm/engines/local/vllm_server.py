"""A model behind a vLLM server of our own: started here, watched, restarted, ended."""

import asyncio
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

from ....base.progress import say
from ....errors import CurateError
from ....inputs.model_files import folder_hash, short_name
from ...flow_control import RESUME, Trouble
from ...protocol import Reply, Request
from ..servers.connections import PATH
from ..servers.openai_server import OpenAIEngine
from .child_process import Server

MODULE = "vllm.entrypoints.openai.api_server"
RESTARTS = 3  # in a row
HEALTHY = 600.0  # seconds after which a server that dies has not died in a row
STARTING = 1800.0  # seconds that a large model may take to load
DYING = 3.0  # seconds from a broken connection to the end of its process
INSTALL = 'pip install "curate-reflection[vllm]"'


class VLLMEngine(OpenAIEngine):
    """Asks a vLLM server that the first request starts and `close`, or our own death, ends.

    `engine_args` go to the server as they are, such as ("--tensor-parallel-size", "2").
    `command` is what starts a server instead of vLLM, as `python -m` would. When the server dies,
    requests wait for its restart and are sent again.
    """

    def __init__(
        self,
        model: str,
        *,
        ceiling: int,
        revision: str | None = None,
        engine_args: Sequence[str] = (),
        command: Sequence[str] | None = None,
    ) -> None:
        if command is None and importlib.util.find_spec("vllm") is None:
            raise CurateError(f"vLLM is not installed here: {INSTALL}")
        folder = os.path.isdir(model)
        name = short_name(model) if folder else model
        super().__init__(
            name,
            "http://127.0.0.1:9/v1",  # until there is a server
            ceiling=ceiling,
            revision=folder_hash(Path(model)) if folder else revision,
        )
        pinned = () if folder or revision is None else ("--revision", revision)
        self._command = (
            *(command or (sys.executable, "-m", MODULE, "--disable-uvicorn-access-log")),
            *("--model", model, "--served-model-name", name, *pinned, *engine_args),
        )
        self._server: Server | None = None
        self._lock = asyncio.Lock()
        self._restarts = 0
        self._lost: CurateError | None = None

    async def close(self) -> None:
        """Close all connections and end the server; its log stays where something went wrong."""
        await super().close()
        if self._server is not None:
            await self._server.stop(keep_log=self._lost is not None)

    async def _attempt(self, request: Request) -> Reply:
        """As at any server, but when this one dies, wait for the next and ask that."""
        while True:
            server = await self._running()
            try:
                return await super()._attempt(request)
            except Trouble as trouble:
                if trouble.kind not in ("unreachable", "fault") or not await server.died(DYING):
                    raise

    async def _running(self) -> Server:
        """The server, ready; started or restarted by the first who finds it missing."""
        async with self._lock:
            if self._lost is not None:
                raise self._lost
            try:
                if self._server is None:
                    say(f"starting vLLM with {self.name}")
                    await self._start()
                while not (self._server is not None and self._server.alive):
                    await self._restart()
            except CurateError as error:
                self._lost = error
                raise
            return self._server

    async def _restart(self) -> None:
        old = self._server
        assert old is not None
        if time.monotonic() - old.since > HEALTHY:
            self._restarts = 0
        if self._restarts == RESTARTS:
            raise CurateError(f"{old.failure(f'died {RESTARTS + 1} times')}\n{RESUME}")
        self._restarts += 1
        say(f"vLLM has died; restart {self._restarts} of {RESTARTS}")
        await old.stop()
        try:
            await self._start()
        except CurateError:
            if self._restarts == RESTARTS:
                raise

    async def _start(self) -> None:
        self._server = Server(self._command, name="vLLM")
        await self._server.ready(STARTING)
        self._url = httpx2.URL(self._server.url + PATH)
