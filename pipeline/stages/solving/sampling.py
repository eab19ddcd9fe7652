"""Problems -> samples, a shard at a time; what a finished shard holds is not asked again."""

import asyncio
from dataclasses import replace
from pathlib import Path

from ...base.progress import Progress
from ...config import SolveConfig
from ...errors import RequestFailed
from ...llm.job import Job, together
from ...runs.directory import shard_index
from ...runs.samples import (
    SAMPLES,
    Problem,
    Sample,
    attempted_problems,
    num_problems,
    sample_status,
    shards,
    write_shard,
)
from .pseudocode import NO_PROGRAM, read_text
from .strategies import Prompt


class Sampler:
    """Asks for the samples of all problems of a job's run."""

    def __init__(self, config: SolveConfig, job: Job, prompt: Prompt) -> None:
        self._config, self._job, self._prompt = config, job, prompt
        self._room = asyncio.Semaphore(job.at_once)

    async def sample_all(self) -> None:
        """Write a shard of samples for each shard of problems."""
        total = num_problems(self._job.run) * self._config.samples
        with Progress("solve", total=total, unit="samples") as progress:
            for shard in shards(self._job.run):
                await self._shard(shard, progress)

    async def _shard(self, shard: Path, progress: Progress) -> None:
        wanted: list[tuple[Problem, int]] = []
        rows: dict[tuple[str, int], Sample] = {}
        attempted = attempted_problems(self._job.run, shard)
        for one in attempted:
            known = {s.sample: s for s in one.samples if not self._retried(s, one.problem.task)}
            rows |= {(one.problem.id, number): sample for number, sample in known.items()}
            numbers = range(self._config.samples)
            wanted += [(one.problem, number) for number in numbers if number not in known]
        progress.advance(self._config.samples * len(attempted) - len(wanted))
        if not wanted:
            return
        found = await together(self._one(problem, number, progress) for problem, number in wanted)
        rows |= {(sample.id, sample.sample): sample for sample in found}
        order = {one.problem.id: place for place, one in enumerate(attempted)}
        ordered = sorted(rows.values(), key=lambda row: (order[row.id], row.sample))
        write_shard(self._job.run, SAMPLES, shard_index(shard), ordered)

    def _retried(self, sample: Sample, task: str | None) -> bool:
        rescued = sample.reason == NO_PROGRAM and task in self._prompt.programs
        return rescued or sample.status in self._config.teacher.retry

    async def _one(self, problem: Problem, number: int, progress: Progress) -> Sample:
        async with self._room:
            sample = await self._asked(problem, number)
        progress.advance(1, self._job.asker.notes())
        return sample

    async def _asked(self, problem: Problem, number: int) -> Sample:
        sample = Sample(id=problem.id, sample=number, reply=None, status="failed")
        if self._prompt.strategy == "pseudocode" and problem.task not in self._prompt.programs:
            return replace(sample, reason=NO_PROGRAM)
        try:
            answered = await self._job.asker.ask(
                self._prompt.messages(problem),
                id=problem.id,
                slot=slot_of(number),
                read=read_text,
                sample=number,
            )
        except RequestFailed as error:
            return replace(sample, reason=str(error))
        reading = answered.reading
        return replace(
            sample,
            reply=reading.text,
            status=sample_status(reading.status),
            reason=reading.reason,
            reply_key=answered.key,
        )


def slot_of(number: int) -> str:
    """What a sample is called in a file of recorded replies."""
    return f"sample_{number}"
