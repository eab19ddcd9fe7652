"""Shards of records, reflected concurrently through one job and written when whole."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from ...base.files import read_parquet
from ...base.progress import Progress
from ...config import ReflectConfig
from ...errors import CurateError
from ...inputs.examples import chunks
from ...llm.ask import Stopped
from ...llm.job import Job, together
from ...records import NO_PAIR, Candidate, CandidateKind, candidates_from
from ...runs.directory import RunDir, by_record, shard_index
from .forecast import projected
from .reflector import Reflector

Step = Literal["all", "instruction", "chosen"]
"""Which reflections are made: all three; the instruction's; that of the chosen pair's response."""
Branches = Callable[[int], dict[str, CandidateKind]]
"""The chosen branch of each record of a shard."""
Earlier = dict[tuple[str, CandidateKind], Candidate]
"""What an earlier invocation made of a shard's records, by id and candidate."""

OPEN_SHARDS = 4


class ShardReflector:
    """Reflects what `config.share` takes of all shards; one invocation's work."""

    def __init__(
        self,
        config: ReflectConfig,
        job: Job,
        reflector: Reflector,
        *,
        step: Step,
        branches: Branches | None,
        shard_size: int,
    ) -> None:
        self.sizes: list[int] = []  # records of each shard, the other tasks' too
        self._config, self._run, self._asker = config, job.run, job.asker
        self._reflector, self._step, self._branches = reflector, step, branches
        self._shard_size = shard_size
        self._spent_before = self._asker.budget.spent
        self._skipped = self._settled = 0  # records of finished shards; reflections made or not
        # Enough records at work to keep every request slot full, and no more in memory.
        at_once = job.at_once if config.teacher.batch_api else 2 * job.at_once
        self._records = asyncio.Semaphore(at_once)
        self._shards = asyncio.Semaphore(max(OPEN_SHARDS, at_once // shard_size))

    async def reflect_all(self, originals: Iterator[Candidate], total: int | None) -> None:
        """Reflect every shard that is not finished; `total` is the number of records, if known."""
        tasks: set[asyncio.Task[None]] = set()
        with Progress("reflect", total=total, unit="records") as progress:
            try:
                try:
                    await self._begin_shards(originals, progress, tasks)
                except CurateError as error:  # in the input; what is in flight is waited for
                    self._asker.stop(error)
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_shards(
        self, examples: Iterator[Candidate], progress: Progress, tasks: set[asyncio.Task[None]]
    ) -> None:
        for index, originals in enumerate(chunks(examples, self._shard_size)):
            self.sizes.append(len(originals))
            if not self._config.share.takes(index):
                continue
            if self._is_finished(index, originals):
                self._skipped += len(originals)
                progress.advance(len(originals))
                continue
            await self._shards.acquire()
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                task.result()  # raises what it failed with
            if self._asker.stopped is not None:
                return
            tasks.add(asyncio.create_task(self._shard(index, originals, progress)))
        if self._config.share.whole:
            progress.total = sum(self.sizes)  # duplicates and unusable rows are known now

    def _is_finished(self, index: int, originals: list[Candidate]) -> bool:
        """Whether the shard on disk holds just these records, and nothing to try again."""
        found = read_parquet(self._run.shard_path(index))
        if found is None or found[1].get("step") not in (self._step, "chosen"):
            return False
        table = found[0]
        ids = dict.fromkeys(table.column("id").to_pylist())
        if list(ids)[: len(originals)] != [original.id for original in originals]:
            return False
        if len(ids) > len(originals):
            return True  # of a larger limit: what is there stays
        return not set(table.column("status").to_pylist()) & set(self._config.teacher.retry)

    async def _shard(self, index: int, originals: list[Candidate], progress: Progress) -> None:
        branches = self._branches(index) if self._branches is not None else {}
        found = read_parquet(self._run.shard_path(index))
        made = candidates_from(found[0]) if found else []
        earlier = {(candidate.id, candidate.candidate): candidate for candidate in made}
        groups: list[list[Candidate] | None] = [None] * len(originals)

        async def one(place: int, original: Candidate) -> None:
            async with self._records:
                groups[place] = await self._record(original, branches.get(original.id), earlier)
            progress.advance(1, self._notes(progress.total))

        try:
            await together(one(place, original) for place, original in enumerate(originals))
            done = [group for group in groups if group is not None]
            if len(done) == len(originals):
                rows = [candidate for group in done for candidate in group]
                write = partial(self._run.write_shard, index, rows, step=self._step)
                await asyncio.to_thread(write)  # requests go on meanwhile
        except Stopped:
            return
        except CurateError as error:  # no room for the shard: so too
            self._asker.stop(error)
        finally:
            self._shards.release()

    async def _record(
        self, original: Candidate, branch: CandidateKind | None, earlier: Earlier
    ) -> list[Candidate]:
        """A record's rows: the original and what the step makes of it."""
        if self._step == "all":
            made = await together(
                self._reflect(kind, original, earlier) for kind in ("instruction", "response")
            )
            return [original, *made, await self._reflect_both(made[0], earlier)]
        if self._step == "instruction":
            return [original, await self._reflect("instruction", original, earlier)]
        instruction = earlier[original.id, "instruction"]  # the one that the student chose by
        if branch == "instruction":
            return [original, instruction, await self._reflect_both(instruction, earlier)]
        return [original, instruction, await self._reflect("response", original, earlier)]

    async def _reflect_both(self, instruction: Candidate, earlier: Earlier) -> Candidate:
        if not instruction.valid:
            self._settled += 1
            return self._reflector.failed("both", instruction, NO_PAIR)
        if instruction != earlier.get((instruction.id, "instruction")):
            earlier = {}
        return await self._reflect("both", instruction, earlier)

    async def _reflect(self, kind: CandidateKind, pair: Candidate, earlier: Earlier) -> Candidate:
        """The reflection of a pair; a request that failed is asked again for `--retry` alone."""
        before = earlier.get((pair.id, kind))
        lost = before is not None and before.status == "failed" and before.reason != NO_PAIR
        if before is None or not lost or "failed" in self._config.teacher.retry:
            before = await self._reflector.reflect(kind, pair)
        self._settled += 1
        return before

    def _notes(self, records: int | None) -> str:
        """Spent so far and, where the number of records is known, in all."""
        totals = self._projected(records)
        if totals is None or not any(totals):
            return self._asker.notes()
        budget, spent = self._asker.budget, self._asker.budget.spent
        notes = f"asked {self._asker.counts.asked:,}  tokens {spent[0]:,}+{spent[1]:,}"
        notes += f" of about {totals[0]:,}+{totals[1]:,}"
        rest = budget.price(totals[0] - spent[0], totals[1] - spent[1])
        if budget.cost is not None and rest is not None:
            return f"{notes}  cost {budget.cost:.4f} of about {budget.cost + rest:.4f} USD"
        return f"{notes}  cost {budget.cost_text(None)}" if budget.sold else notes

    def _projected(self, records: int | None) -> tuple[int, int] | None:
        """Prompt and completion tokens of the whole run, by what a reply has used so far."""
        if records is None:
            return None
        left = (3 if self._step == "all" else 1) * (records - self._skipped) - self._settled
        prompt, completion = (
            projected(spent, before, answered=self._asker.counts.answered, left=max(0, left))
            for spent, before in zip(self._asker.budget.spent, self._spent_before, strict=True)
        )
        return None if prompt is None or completion is None else (prompt, completion)


def cut_shards(run: RunDir, records: int, shard_size: int) -> None:
    """Leave a run its first records: others are of a larger limit that was never finished."""
    for path in run.shard_paths():
        index = shard_index(path)
        left = records - index * shard_size
        if left <= 0:
            path.unlink()
        elif left < shard_size and (found := read_parquet(path)):
            groups = list(by_record(candidates_from(found[0])))
            if len(groups) > left:
                run.write_shard(
                    index, [row for group in groups[:left] for row in group], **found[1]
                )
