"""Stage 1: examples -> candidates, by asking the teacher."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...base.files import count_of
from ...base.processes.sharding import WHOLE, Share
from ...base.progress import say
from ...config import ReflectConfig
from ...inputs.ingest import Intake
from ...llm.budget import Budget
from ...llm.job import Job, asking_job, spent_budget
from ...llm.journal import Journal
from ...records import CANDIDATES, REFLECTIONS, RETRYABLE
from ...runs.directory import RunDir, is_run
from ...runs.importing import NEAR_DUPLICATES, SHARD, say_unused, write_unused
from ...runs.lock import turn_lock
from ...templates import teacher_prompts
from .reflector import Reflector
from .shards import Branches, ShardReflector, Step, cut_shards
from .sources import prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectResult:
    """The run and what is in it now, over all invocations; `asked` and `reused` are this one's."""

    run: Path
    records: int
    statuses: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    reused: int = 0
    tokens: tuple[int, int] = (0, 0)
    cost: float | None = None
    """USD; None where no price is known or the model is not sold by the token."""
    waiting: int = 0
    """Shards that other tasks have not made yet; then all else is of this task's share."""

    @property
    def troubled(self) -> int:
        """How many candidates `--retry` would take up."""
        return sum(number for status, number in self.statuses.items() if status in RETRYABLE)


def reflect(
    config: ReflectConfig,
    *,
    step: Step = "all",
    branches: Branches | None = None,
    shard_size: int = SHARD,
) -> ReflectResult:
    """Make the candidates of every record; what a journal holds is not asked again."""
    begun, intake = time.monotonic(), Intake()
    prepared, prompts = prepare(config), teacher_prompts(config.teacher.prompts)
    with asking_job(
        config.teacher,
        "reflect",
        create_run=prepared.create_run,
        version=prompts.version,
        share=config.share,
    ) as job:
        reflector = Reflector(job.asker, prompts)
        shards = ShardReflector(
            config, job, reflector, step=step, branches=branches, shard_size=shard_size
        )
        total = prepared.total if config.share.whole else None
        job.complete(lambda: shards.reflect_all(prepared.originals(intake), total))
        return _Finish(config, job, intake, step, begun, shard_size).result(shards.sizes)


@dataclass(frozen=True, slots=True)
class _Finish:
    """What is said and noted once a task's share is reflected."""

    config: ReflectConfig
    job: Job
    intake: Intake
    step: Step
    begun: float
    shard_size: int

    def result(self, sizes: list[int]) -> ReflectResult:
        """What is there; the manifest is written once all shards, of these sizes, are."""
        if self.config.share.whole:
            return self._finish_run(sum(sizes))
        # In turn: the last one to come has seen what all others wrote before they came.
        with turn_lock(self.job.run.path, "reflect"):
            missing = sum(
                count_of(self.job.run.shard_path(index)) < len(CANDIDATES) * records
                for index, records in enumerate(sizes)
            )
            if not missing:
                return self._finish_run(sum(sizes))
            counts = _counts(self.job.run, self.config.share)
            return self._result(counts, self.job.asker.budget, waiting=missing)

    def _finish_run(self, records: int) -> ReflectResult:
        run = self.job.run
        previous = run.stage("reflect") or {}
        cut_shards(run, max(records, previous.get("records", 0)), self.shard_size)
        counts = _counts(run, WHOLE)
        known = previous.get("input") or {}
        # A retry reads the run itself, and a smaller --limit only a part of what the run holds.
        reads_all = self.intake.counts()["rows"] >= known.get("rows", 0)
        if reads_all:
            self._report_unused()
        budget, damaged = self._of_all_tasks()
        seconds = previous.get("seconds", 0) + time.monotonic() - self.begun
        shared = self.config.teacher.journal
        entry: dict[str, Any] = {
            "step": self.step,
            "records": _records(counts),
            "candidates": dict(sorted(counts.items())),
            "tokens": {"prompt": budget.spent[0], "completion": budget.spent[1]},
            "cost_usd": None if budget.cost is None else round(budget.cost, 6),
            "cost": budget.cost_text(budget.cost),
            "journal": str(shared.absolute()) if shared else "journal",
            "damaged_journal_lines": damaged,
            "seconds": round(seconds, 3),  # of the invocations that finished
        }
        retrying = is_run(self.config.input.data)
        entry["input"] = known if retrying or not reads_all else self.intake.counts()
        run.finish_stage("reflect", entry)
        return self._result(counts, budget)

    def _report_unused(self) -> None:
        path, intake = self.job.run.path, self.intake
        write_unused(path, intake)
        say_unused(intake.counts(), f"{path}/")
        if intake.near_duplicates:
            listed = path / NEAR_DUPLICATES
            say(f"note: {len(intake.near_duplicates)} near-duplicates were left out, see {listed}")

    def _of_all_tasks(self) -> tuple[Budget, int]:
        """What the run has spent, and the journal's damaged lines."""
        if self.config.share.whole:
            return self.job.asker.budget, self.job.asker.journal.damaged
        id = self.job.run.config["id"]
        journal = Journal(self.job.folder, run=id)
        return spent_budget(self.config.teacher, journal, id), journal.damaged

    def _result(self, counts: Counter[str], budget: Budget, *, waiting: int = 0) -> ReflectResult:
        statuses: Counter[str] = Counter()
        for name, number in counts.items():
            kind, status = name.split()
            if kind in REFLECTIONS:
                statuses[status] += number
        return ReflectResult(
            run=self.job.run.path,
            records=_records(counts),
            statuses=dict(statuses),
            asked=self.job.asker.counts.asked,
            reused=self.job.asker.counts.from_journal,
            tokens=budget.spent,
            cost=budget.cost,
            waiting=waiting,
        )


def _counts(run: RunDir, share: Share) -> Counter[str]:
    """How many candidates of each kind and status, such as `both failed`, a share has."""
    counts: Counter[str] = Counter()
    for path in run.shard_paths(share):
        table = run.shard_table(path).select(["candidate", "status"])
        kinds, statuses = (column.to_pylist() for column in table.columns)
        counts.update(f"{k} {s}" for k, s in zip(kinds, statuses, strict=True))
    return counts


def _records(counts: Counter[str]) -> int:
    """Each record has one original, whatever its status."""
    return sum(number for name, number in counts.items() if name.startswith("original "))
