"""Stage 1: examples -> candidates, by asking the teacher."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ...base.files import count_of, read_parquet
from ...base.progress import Progress, say
from ...base.sharding import WHOLE, Share
from ...config import ReflectConfig
from ...errors import CurateError
from ...inputs.examples import chunks
from ...inputs.ingest import Intake
from ...llm.ask import Stopped, budget_of, open_asking, together, until_terminated
from ...llm.budget import Budget
from ...llm.engines.batch_jobs import BatchTeacher, submitted
from ...llm.engines.choose import make_teacher
from ...llm.engines.openai_server import OpenAITeacher
from ...llm.journal import Journal
from ...llm.protocol import Teacher
from ...records import CANDIDATES, REFLECTIONS, RETRYABLE, Candidate, CandidateKind, candidates_from
from ...run.directory import RunDir, is_run
from ...run.importing import NEAR_DUPLICATES, SHARD, write_unused
from ...run.lock import run_lock, turn_lock
from ...templates import teacher_prompts
from .forecast import projected
from .opening import Opened, open_run
from .reflector import NO_PAIR, Reflector

Step = Literal["all", "instruction", "chosen"]
"""Which reflections are made: all three; the instruction's; that of the chosen pair's response."""
Branches = Callable[[int], dict[str, CandidateKind]]
"""The chosen branch of each record of a shard."""
Known = dict[tuple[str, CandidateKind], Candidate]

OPEN_SHARDS = 4
BATCHED = 50_000  # records at once where requests go into batch jobs: two full files


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectResult:
    """The run and what is in it now, over all invocations; `asked` and `reused` are this one's."""

    run: Path
    records: int
    statuses: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    reused: int = 0
    tokens: tuple[int, int] = (0, 0)
    cost: float = 0.0
    waiting: int = 0
    """Shards that other tasks have not made yet; then all else is of this task's share."""

    @property
    def troubled(self) -> int:
        """How many candidates `--retry` would take up."""
        return sum(number for status, number in self.statuses.items() if status in RETRYABLE)


def reflect(
    config: ReflectConfig, *, step: Step = "all", branches: Branches | None = None
) -> ReflectResult:
    """Make the candidates of every record; what a journal holds is not asked again.

    Raises BudgetReached, or CurateError when the teacher cannot be had, with all that was paid for
    kept.
    """
    teacher = make_teacher(config.teacher)
    run, stage = None, None
    try:
        opened = open_run(config, teacher)
        run = opened.run
        with run_lock(run.path, "reflect", share=config.share):
            stage = _Stage(config, run, teacher, step, branches)
            return asyncio.run(until_terminated(stage.work(opened)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except CurateError:
        if stage is None:
            asyncio.run(teacher.close())
        if run is None or (stage and any(stage.budget.spent)):  # a shared journal counts it
            raise
        if not config.share.whole:  # other tasks have begun in it
            raise
        with run.discarded_if_empty():
            raise


class _Stage:
    """One invocation: shards of records, reflected concurrently, written when whole."""

    def __init__(
        self,
        config: ReflectConfig,
        run: RunDir,
        teacher: Teacher,
        step: Step,
        branches: Branches | None,
    ) -> None:
        self.config, self.run, self.teacher = config, run, teacher
        self.step, self.branches = step, branches
        self.begun = time.monotonic()
        settings = config.teacher
        self.folder = settings.journal or run.path / "journal"
        self.asking = open_asking(teacher, settings, journal=self.folder, run=run.config["id"])
        self.journal, self.budget = self.asking.journal, self.asking.budget
        self.batches = self._batches(self.folder / "batches")
        if self.batches is not None:
            self.asking.teacher = self.batches
        self.reflector = Reflector(
            self.asking,
            teacher_prompts(settings.prompts),
            settings,
        )
        self.spent_before = self.budget.spent
        self.skipped = self.settled = 0  # records of finished shards; reflections made or not
        # Enough records at work to keep every request slot full, and no more in memory.
        at_once = BATCHED if settings.batch_api else 2 * settings.concurrency
        self.records = asyncio.Semaphore(at_once)
        self.shards = asyncio.Semaphore(max(OPEN_SHARDS, at_once // SHARD))
        self.sizes: list[int] = []  # records of each shard, the other tasks' too

    def _batches(self, folder: Path) -> BatchTeacher | None:
        run, settings = self.run.config["id"], self.config.teacher
        if settings.batch_api and isinstance(self.teacher, OpenAITeacher):
            return BatchTeacher(
                self.teacher, self.journal, folder, run=run, longest=settings.batch_poll
            )
        if waiting := sum(len(job.requests) for job in submitted(folder, run)):
            raise CurateError(
                f"{waiting} requests of {self.run.path} are submitted as batch jobs, and would be "
                "paid for twice: run the same command with --batch-api, which collects them"
            )
        return None

    async def work(self, opened: Opened) -> ReflectResult:
        intake = Intake()
        examples = opened.originals(intake)
        try:
            total = opened.total if self.config.share.whole else None
            with Progress("reflect", total=total, unit="records") as progress:
                if self.batches is not None:
                    self.batches.take_up()
                await self._all_shards(examples, progress)
                if self.batches is not None and self.asking.stopped is None:
                    await self.batches.finish()
        finally:
            await self.asking.close()
        if self.asking.stopped is not None:
            raise self.asking.stopped
        return self._finish(intake)

    async def _all_shards(self, examples: Iterator[Candidate], progress: Progress) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            try:
                await self._begin_shards(examples, progress, tasks)
            except CurateError as error:  # in the input; what is in flight is waited for
                self.asking.stop(error)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_shards(
        self, examples: Iterator[Candidate], progress: Progress, tasks: set[asyncio.Task[None]]
    ) -> None:
        for index, originals in enumerate(chunks(examples, SHARD)):
            self.sizes.append(len(originals))
            if not self.config.share.takes(index):
                continue
            if self._is_finished(index, originals):
                self.skipped += len(originals)
                progress.advance(len(originals))
                continue
            await self.shards.acquire()
            _raise_failed(tasks)
            if self.asking.stopped is not None:
                return
            tasks.add(asyncio.create_task(self._shard(index, originals, progress)))
        if self.config.share.whole:
            progress.total = sum(self.sizes)  # duplicates and unusable rows are known now

    def _is_finished(self, index: int, originals: list[Candidate]) -> bool:
        """Whether the shard on disk holds just these records, and nothing to try again."""
        found = read_parquet(self.run.shard_path(index))
        if found is None or found[1].get("step") not in (self.step, "chosen"):
            return False
        table = found[0]
        ids = dict.fromkeys(table.column("id").to_pylist())
        if list(ids)[: len(originals)] != [original.id for original in originals]:
            return False
        if len(ids) > len(originals):
            return True  # of a larger limit: what is there stays
        return not set(table.column("status").to_pylist()) & set(self.config.teacher.retry)

    async def _shard(self, index: int, originals: list[Candidate], progress: Progress) -> None:
        branches = self.branches(index) if self.branches is not None else {}
        known = self._known(index)
        groups: list[list[Candidate] | None] = [None] * len(originals)

        async def one(place: int, original: Candidate) -> None:
            async with self.records:
                groups[place] = await self._record(original, branches.get(original.id), known)
            progress.advance(1, self._notes(progress.total))

        try:
            await together(one(place, original) for place, original in enumerate(originals))
            done = [group for group in groups if group is not None]
            if len(done) == len(originals):
                rows = [candidate for group in done for candidate in group]
                write = partial(self.run.write_shard, index, rows, step=self.step)
                await asyncio.to_thread(write)  # requests go on meanwhile
        except Stopped:
            return
        except CurateError as error:  # no room for the shard: so too
            self.asking.stop(error)
        finally:
            self.shards.release()

    def _known(self, index: int) -> Known:
        """What an earlier invocation made of the shard's records, by id and candidate."""
        found = read_parquet(self.run.shard_path(index))
        made = candidates_from(found[0]) if found else []
        return {(candidate.id, candidate.candidate): candidate for candidate in made}

    async def _record(
        self, original: Candidate, branch: CandidateKind | None, known: Known
    ) -> list[Candidate]:
        """A record's rows: the original and what the step makes of it."""
        if self.step == "all":
            made = await together(
                self._made(kind, original, known) for kind in ("instruction", "response")
            )
            return [original, *made, await self._both(made[0], known)]
        if self.step == "instruction":
            return [original, await self._made("instruction", original, known)]
        instruction = known[original.id, "instruction"]  # the one that the student chose by
        if branch == "instruction":
            return [original, instruction, await self._both(instruction, known)]
        return [original, instruction, await self._made("response", original, known)]

    async def _both(self, instruction: Candidate, known: Known) -> Candidate:
        if not instruction.valid:
            self.settled += 1
            return self.reflector.unmade("both", instruction, NO_PAIR)
        if instruction != known.get((instruction.id, "instruction")):
            known = {}
        return await self._made("both", instruction, known)

    async def _made(self, kind: CandidateKind, pair: Candidate, known: Known) -> Candidate:
        """The reflection of a pair; a request that failed is asked again for `--retry` alone."""
        before = known.get((pair.id, kind))
        lost = before is not None and before.status == "failed" and before.reason != NO_PAIR
        if before is None or not lost or "failed" in self.config.teacher.retry:
            before = await self.reflector.reflect(kind, pair)
        self.settled += 1
        return before

    def _notes(self, records: int | None) -> str:
        """Spent so far and, where the number of records is known, in all."""
        spent, cost, totals = self.budget.spent, self.budget.cost, self._projected(records)
        tokens = f"tokens {spent[0]}+{spent[1]}"
        paid = f"  cost {cost:.4f}" if cost else ""
        if totals is not None:
            tokens += f" of about {totals[0]}+{totals[1]}"
            rest = self.budget.price(totals[0] - spent[0], totals[1] - spent[1])
            paid += f" of about {cost + rest:.4f}" if paid else ""
        return f"asked {self.asking.tally.asked}  {tokens}{paid}{' USD' if paid else ''}"

    def _projected(self, records: int | None) -> tuple[int, int] | None:
        """Prompt and completion tokens of the whole run, by what a reply has used so far."""
        if records is None:
            return None
        left = (3 if self.step == "all" else 1) * (records - self.skipped) - self.settled
        sums = [
            projected(spent, before, answered=self.asking.tally.answered, left=max(0, left))
            for spent, before in zip(self.budget.spent, self.spent_before, strict=True)
        ]
        return (sums[0], sums[1]) if sums[0] is not None and sums[1] is not None else None

    def _finish(self, intake: Intake) -> ReflectResult:
        if self.config.share.whole:
            return self._finish_run(intake)
        # In turn: the last one to come has seen what all others wrote before they came.
        with turn_lock(self.run.path, "reflect"):
            missing = sum(not self._is_there(i, size) for i, size in enumerate(self.sizes))
            if missing:
                counts = self._counts(self.config.share)
                return self._result(counts, self.budget, waiting=missing)
            return self._finish_run(intake)

    def _is_there(self, index: int, records: int) -> bool:
        """Whether a shard, of another task perhaps, holds so many records; by its footer alone."""
        return count_of(self.run.shard_path(index)) >= len(CANDIDATES) * records

    def _finish_run(self, intake: Intake) -> ReflectResult:
        counts = self._counts(WHOLE)
        write_unused(self.run.path, intake)
        if intake.num_rejected:
            listed = self.run.path / "rejected_input.json"
            say(f"note: {intake.num_rejected} input rows were not used, see {listed}")
        if intake.near_duplicates:
            listed = self.run.path / NEAR_DUPLICATES
            say(f"note: {len(intake.near_duplicates)} near-duplicates were left out, see {listed}")
        budget, damaged = self._of_all_tasks()
        shared = self.config.teacher.journal
        entry: dict[str, Any] = {
            "step": self.step,
            "records": _records(counts),
            "candidates": dict(sorted(counts.items())),
            "tokens": {"prompt": budget.spent[0], "completion": budget.spent[1]},
            "cost_usd": round(budget.cost, 6),
            "journal": str(shared.absolute()) if shared else "journal",
            "damaged_journal_lines": damaged,
        }
        previous = self.run.stage("reflect") or {}
        seconds = previous.get("seconds", 0) + time.monotonic() - self.begun
        entry["seconds"] = round(seconds, 3)  # of the invocations that finished
        entry["input"] = previous.get("input") if self._retrying() else intake.counts()
        self.run.finish_stage("reflect", entry)
        return self._result(counts, budget)

    def _counts(self, share: Share) -> Counter[str]:
        """How many candidates of each kind and status, such as `both failed`, a share has."""
        counts: Counter[str] = Counter()
        for path in self.run.shard_paths(share):
            table = self.run.shard_table(path).select(["candidate", "status"])
            kinds, statuses = (column.to_pylist() for column in table.columns)
            counts.update(f"{k} {s}" for k, s in zip(kinds, statuses, strict=True))
        return counts

    def _of_all_tasks(self) -> tuple[Budget, int]:
        """What the run has spent, and the journal's damaged lines."""
        if self.config.share.whole:
            return self.budget, self.journal.damaged
        journal = Journal(self.folder, run=self.run.config["id"])
        return budget_of(self.config.teacher, journal, self.run.config["id"]), journal.damaged

    def _result(self, counts: Counter[str], budget: Budget, *, waiting: int = 0) -> ReflectResult:
        statuses: Counter[str] = Counter()
        for name, number in counts.items():
            kind, status = name.split()
            if kind in REFLECTIONS:
                statuses[status] += number
        return ReflectResult(
            run=self.run.path,
            records=_records(counts),
            statuses=dict(statuses),
            asked=self.asking.tally.asked,
            reused=self.asking.tally.from_journal,
            tokens=budget.spent,
            cost=budget.cost,
            waiting=waiting,
        )

    def _retrying(self) -> bool:
        return is_run(self.config.input.data)


def _records(counts: Counter[str]) -> int:
    """Each record has one original, whatever its status."""
    return sum(number for name, number in counts.items() if name.startswith("original "))


def _raise_failed(tasks: set[asyncio.Task[None]]) -> None:
    for task in [task for task in tasks if task.done()]:
        tasks.remove(task)
        task.result()
