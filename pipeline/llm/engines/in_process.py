"""The teacher in this process: transformers' continuous batching, on a CPU or one GPU.

Temperature is the run's, and so is the seed: it starts the random numbers of the whole run, which
requests draw in the order in which they are scheduled, so that sampled replies (unlike greedy ones)
depend on what was asked beside them. Top-k, top-p and penalties of the model's generation_config
are not applied.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

from ...config import Role
from ...errors import CurateError, TeacherFailure
from ...inputs.model_files import folder_hash, short_name
from ..protocol import Reply, Request
from .continuous_batching import Engine, Settings, failed, start_engine

PULSE = 1.0  # seconds between looks at the thread while a reply is awaited


class LocalTeacher:
    """Asks a model loaded here; it is loaded by the first request and let go by `close`.

    `model` is a folder or a hub id; a folder's revision is a hash of its files. `memory`, in bytes,
    bounds the cache of keys and values on a CPU: a quarter of this machine's if None.
    """

    def __init__(
        self,
        model: str,
        *,
        ceiling: int,
        revision: str | None = None,
        device: str = "auto",
        memory: int | None = None,
        role: Role = "teacher",
    ) -> None:
        folder = Path(model).is_dir()
        self._name = short_name(model) if folder else model
        self._revision = folder_hash(Path(model)) if folder else revision
        revision = None if folder else revision
        self._settings = Settings(model, revision, device, ceiling, memory, role)
        self._sampling: tuple[float, int | None] | None = None
        self._engine: asyncio.Future[Engine] | None = None
        self._numbers = count()

    @property
    def name(self) -> str:
        """The hub id, or the folder's own name."""
        return self._name

    @property
    def revision(self) -> str | None:
        """As given, or a hash of the folder's files."""
        return self._revision

    async def ask(self, request: Request) -> Reply:
        """The model's reply. TeacherFailure for a prompt that leaves no room for one."""
        engine = await self._loaded(request)
        prompt = list(request.tokens or engine.encode(request.messages))
        room = engine.context - len(prompt)
        if room < 1:
            raise TeacherFailure(
                f"longer than the {self._settings.role}'s context: the prompt has "
                f"{len(prompt)} tokens, the context {engine.context}"
            )
        tokens = await self._generate(engine, prompt, min(request.max_tokens, room))
        stopped = bool(tokens) and tokens[-1] in engine.ends
        return Reply(
            text=engine.decode(tokens[:-1] if stopped else tokens),
            finish_reason="stop" if stopped else "length",
            max_tokens=request.max_tokens,
            prompt_tokens=len(prompt),
            completion_tokens=len(tokens),
            endpoint=f"transformers on {engine.model.device}",
        )

    async def close(self) -> None:
        """End the thread and free the model's memory."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        if not engine.done():
            engine.cancel()  # whoever loads lets go of it again
        elif not engine.cancelled() and engine.exception() is None:
            await asyncio.to_thread(engine.result().stop)

    async def _loaded(self, request: Request) -> Engine:
        sampling = (request.temperature, request.seed)
        if self._engine is None:
            self._sampling = sampling
            self._engine = asyncio.get_running_loop().create_future()
            settings = replace(self._settings, chat=request.tokens is None)
            loading = (settings, sampling, self._engine)
            # A daemon, and so is the manager's thread begun in it: neither can hold up an exit.
            Thread(target=_load, args=loading, name="teacher", daemon=True).start()
        assert sampling == self._sampling, "temperature and seed are the run's"
        return await asyncio.shield(self._engine)

    async def _generate(self, engine: Engine, prompt: list[int], most: int) -> list[int]:
        """The new tokens. CurateError when the manager's thread has failed or ended."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        name, manager = f"request {next(self._numbers)}", engine.manager
        manager.register_result_handler(name, _setter(future))
        if manager.add_request(prompt, request_id=name, max_new_tokens=most) is None:
            raise self._broken(manager)
        try:
            while not future.done():
                await asyncio.wait([future], timeout=PULSE)
                if not future.done() and not manager.is_running():
                    await asyncio.wait([future], timeout=PULSE)  # what it sent before it ended
                    break
        except asyncio.CancelledError:
            manager.cancel_request(name)
            raise
        if not future.done() or future.result().error is not None:
            raise self._broken(manager, future.result().error if future.done() else None)
        tokens: list[int] = future.result().generated_tokens
        return tokens

    def _broken(self, manager: Any, why: str | None = None) -> CurateError:
        why = why or str(manager.background_thread_status.fatal_error or "its thread has ended")
        return failed(self._name, why, self._settings.role)


def _setter(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    def set_result(output: Any) -> None:
        if output.is_finished() and not future.done():
            future.set_result(output)

    return set_result


def _load(
    settings: Settings, sampling: tuple[float, int | None], future: asyncio.Future[Engine]
) -> None:
    """Loads in a thread; what comes of it, an exception too, goes to the future."""
    engine: Engine | None = None
    error: BaseException | None = None
    try:
        engine = start_engine(settings, sampling)
    except BaseException as problem:  # noqa: BLE001 (raised again by whoever awaits the future)
        error = problem

    def hand_over() -> None:
        if future.cancelled():
            if engine is not None:
                engine.stop()
        elif engine is None:
            future.set_exception(error or AssertionError)
        else:
            future.set_result(engine)

    try:
        future.get_loop().call_soon_threadsafe(hand_over)
    except RuntimeError:  # the loop is closed: nobody waits any more
        if engine is not None:
            engine.stop()
