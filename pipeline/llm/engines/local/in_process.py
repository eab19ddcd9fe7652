"""A model in this process: transformers' continuous batching, on a CPU or one GPU.

A reply is sampled by the request alone (`gumbel_sampling`): its temperature, top-p, key and seed.
Without a seed the key alone draws it, so that the same request always has the same reply. Top-k,
top-p and penalties of the model's generation_config are not applied.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

from ....config import Role
from ....errors import CurateError, RequestFailed
from ....inputs.model_files import folder_hash, short_name
from ....method.replies.endings import opens_reasoning
from ...protocol import Engine, Reply, Request
from .continuous_batching import LoadedModel, Settings, failed, start_model

PULSE = 1.0  # seconds between looks at the thread while a reply is awaited
PROMPT_END = 16  # tokens of a prompt that show whether it opens a block of reasoning


class InProcessEngine(Engine):
    """Asks a model loaded here; it is loaded by the first request and freed by `close`.

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
        folder = os.path.isdir(model)
        self.name = short_name(model) if folder else model
        self.revision = folder_hash(Path(model)) if folder else revision
        revision = None if folder else revision
        self._settings = Settings(model, revision, device, ceiling, memory, role)
        self._model: asyncio.Future[LoadedModel] | None = None
        self._numbers = count()

    async def ask(self, request: Request) -> Reply:
        """The model's reply. RequestFailed for a prompt that leaves no room for one."""
        model = await self._loaded(request)
        prompt = list(request.tokens or model.encode(request.messages))
        room = model.context - len(prompt)
        if room < 1:
            raise RequestFailed(
                f"longer than the {self._settings.role}'s context: the prompt has "
                f"{len(prompt)} tokens, the context {model.context}"
            )
        tokens = await self._generate(model, request, prompt, min(request.max_tokens, room))
        stopped = bool(tokens) and tokens[-1] in model.ends
        opened = "<think>" if opens_reasoning(model.decode(prompt[-PROMPT_END:])) else ""
        return Reply(
            text=opened + model.decode(tokens[:-1] if stopped else tokens),
            finish_reason="stop" if stopped else "length",
            max_tokens=request.max_tokens,
            prompt_tokens=len(prompt),
            completion_tokens=len(tokens),
            endpoint=f"transformers on {model.model.device}",
        )

    async def close(self) -> None:
        """End the thread and free the model's memory."""
        model, self._model = self._model, None
        if model is None:
            return
        if not model.done():
            model.cancel()  # whoever loads it frees it again
        elif not model.cancelled() and model.exception() is None:
            await asyncio.to_thread(model.result().stop)

    async def _loaded(self, request: Request) -> LoadedModel:
        if self._model is None:
            self._model = asyncio.get_running_loop().create_future()
            settings = replace(self._settings, chat=request.tokens is None)
            loading = (settings, self._model)
            # A daemon, and so is the manager's thread begun in it: neither can hold up an exit.
            Thread(target=_load, args=loading, name="load model", daemon=True).start()
        return await asyncio.shield(self._model)

    async def _generate(
        self, model: LoadedModel, request: Request, prompt: list[int], most: int
    ) -> list[int]:
        """The new tokens. CurateError when the manager's thread has failed or ended."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        name, manager = f"request {next(self._numbers)}", model.manager
        manager.register_result_handler(name, _setter(future))
        sampling = {
            "temperature": request.temperature,
            "top_p": request.top_p or 1.0,
            "stream": _stream(request),
        }
        if manager.add_request(prompt, name, most, **sampling) is None:
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
        return failed(self.name, why, self._settings.role)


def _stream(request: Request) -> int:
    """64 bits that name a request's noise; its seed and its sample's number are in its key too."""
    return int.from_bytes(blake2b(f"{request.seed} {request.key}".encode(), digest_size=8).digest())


def _setter(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    def set_result(output: Any) -> None:
        if output.is_finished() and not future.done():
            future.set_result(output)

    return set_result


def _load(settings: Settings, future: asyncio.Future[LoadedModel]) -> None:
    """Loads in a thread; what comes of it, an exception too, goes to the future."""
    model: LoadedModel | None = None
    error: BaseException | None = None
    try:
        model = start_model(settings)
    except BaseException as problem:  # noqa: BLE001 (raised again by whoever awaits the future)
        error = problem

    def hand_over() -> None:
        if future.cancelled():
            if model is not None:
                model.stop()
        elif model is None:
            future.set_exception(error or AssertionError)
        else:
            future.set_result(model)

    try:
        future.get_loop().call_soon_threadsafe(hand_over)
    except RuntimeError:  # the loop is closed: nobody waits any more
        if model is not None:
            model.stop()
