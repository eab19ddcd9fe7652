"""A whole job of asking: engine, run directory, lock, journal and budget, closed on any error."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..base.processes.sharding import WHOLE, Share
from ..base.progress import Progress, say
from ..base.tables import many
from ..config import ModelConfig
from ..errors import CurateError
from ..records import REFLECTIONS
from ..runs.directory import RunDir
from ..runs.lock import run_lock
from .ask import Asker, Interrupted, Stopped
from .budget import Budget
from .engines.choose import is_sold, make_engine, model_prices
from .engines.servers.batch_notes import submitted
from .journal import Journal
from .protocol import Engine

BATCHED = 50_000  # requests at once where they go into batch jobs: a full file
GRACE = 5.0  # seconds from SIGTERM for replies that are paid for: half of what containers leave

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741


@contextmanager
def asking_job(
    config: ModelConfig,
    stage: str,
    *,
    create_run: Callable[[Engine], RunDir],
    version: str,
    slots: Sequence[str] = REFLECTIONS,
    share: Share = WHOLE,
) -> Iterator["Job"]:
    """Make the engine, and the run that it answers for; lock that and open its journal and budget.

    `version` is the prompts', `slots` what a file of recorded replies may hold. An error leaves no
    run behind for which nothing was paid. Raises BudgetReached, or CurateError when the model
    cannot be had, with all that was paid for kept.
    """
    engine = make_engine(config, slots=slots)
    run: RunDir | None = None
    job: Job | None = None
    try:
        run = create_run(engine)
        with run_lock(run.path, stage, share=share):
            job = Job(config, run, engine, stage=stage, version=version)
            yield job
    except CurateError:
        paid = job is not None and any(job.asker.budget.spent)  # a shared journal counts it
        if run is None or paid or not share.whole:
            raise
        with run.discarded_if_empty():
            raise
    finally:
        if job is None or not job.begun:
            asyncio.run(engine.close())


class Job:
    """A model's run, with all that asking needs; `complete` or `for_each` does the work, once."""

    def __init__(
        self, config: ModelConfig, run: RunDir, engine: Engine, *, stage: str, version: str
    ) -> None:
        self.run = run
        self.begun = False
        self.at_once = BATCHED if config.batch_api else config.concurrency
        self._stage = stage
        self._grace = 0.0 if config.batch_api else GRACE  # batches are noted, and go on
        id = run.config["id"]
        self.folder = config.journal or run.path / "journal"
        journal = Journal(self.folder, run=id, model=engine.name)
        if len(journal):
            say(f"taking up: the journal holds {many(len(journal), 'reply', 'replies')}")
            engine.expect_answers()
        engine = _batched(engine, config, journal, self.folder / "batches", run)
        self.asker = Asker(
            engine, journal, spent_budget(config, journal, id), config, version=version
        )

    def complete(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do the work in a loop of its own, then close the engine and the journal.

        Raises what stopped the run.
        """
        self.begun = True
        try:
            return asyncio.run(self._until_terminated(self._complete(work)))
        except (asyncio.CancelledError, Interrupted):
            raise KeyboardInterrupt from None

    async def _until_terminated(self, work: Coroutine[Any, Any, T]) -> T:
        """Let SIGTERM end the work: between two steps, and once what is paid for has come."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def terminate() -> None:
            if self._grace and self.asker.interrupt():
                loop.call_later(self._grace, task.cancel)
            else:
                task.cancel()

        if threading.current_thread() is not threading.main_thread():
            return await work
        # Not by the loop, which would leave no handler behind for what is done after it.
        before = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(terminate))
        try:
            return await work
        finally:
            signal.signal(signal.SIGTERM, before)

    async def _complete(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        asker = self.asker
        try:
            await asker.engine.start()
            done = await work()
            if asker.stopped is None:
                await asker.engine.finish()
        except Stopped:
            assert asker.stopped is not None
        finally:
            await asker.close()
        if asker.stopped is not None:
            raise asker.stopped
        return done

    def for_each(
        self, items: list[I], answer: Callable[[I], Coroutine[Any, Any, T]], *, unit: str
    ) -> list[T]:
        """`answer` of each item, as many at a time as the configuration allows, in their order."""
        return self.complete(lambda: self._for_each(items, answer, unit))

    async def _for_each(
        self, items: list[I], answer: Callable[[I], Coroutine[Any, Any, T]], unit: str
    ) -> list[T]:
        room = asyncio.Semaphore(self.at_once)

        async def one(item: I) -> T:
            async with room:
                result = await answer(item)
            progress.advance(1, self.asker.notes())
            return result

        with Progress(self._stage, total=len(items), unit=unit) as progress:
            return await together(one(item) for item in items)


def _batched(
    engine: Engine, config: ModelConfig, journal: Journal, notes: Path, run: RunDir
) -> Engine:
    """The engine behind batch jobs, where they are asked for; CurateError where some are left."""
    id = run.config["id"]
    if config.batch_api and is_sold(config):
        from .engines.servers.batch_jobs import BatchEngine
        from .engines.servers.openai_server import OpenAIEngine

        assert isinstance(engine, OpenAIEngine)
        return BatchEngine(engine, journal, notes, run=id, longest=config.batch_poll)
    if waiting := sum(len(job.requests) for job in submitted(notes, id)):
        raise CurateError(
            f"{waiting} requests of {run.path} are submitted as batch jobs, and would be paid for "
            "twice: run the same command with --batch-api, which collects them"
        )
    return engine


def check_model(config: ModelConfig) -> None:
    """Raise CurateError for options that cannot be asked with, before other work is done."""
    asyncio.run(make_engine(config).close())
    Budget(max_cost=config.max_cost, prices=model_prices(config))


def spent_budget(config: ModelConfig, journal: Journal, run: str) -> Budget:
    """The budget, with what the journal says that this run has spent."""
    return Budget(
        max_total_tokens=config.max_total_tokens,
        max_cost=config.max_cost,
        prices=model_prices(config),
        sold=is_sold(config),
        spent=journal.spent(run),
        spent_at_half=journal.spent_at_half(run),
        half=config.batch_api,
    )


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all; when one raises, let the others end by themselves first, then raise it."""
    results = await asyncio.gather(*work, return_exceptions=True)
    done = [result for result in results if not isinstance(result, BaseException)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return done
