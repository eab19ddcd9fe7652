"""`curate reflect --dry-run`: what a reflection would ask for, cost and take, asking nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ...base.files import read_parquet
from ...config import ReflectConfig
from ...inputs.ingest import Intake
from ...inputs.readers import open_source
from ...llm.ask import Asking
from ...llm.budget import Budget
from ...llm.engines.batch_jobs import Job, submitted
from ...llm.engines.choose import make_teacher, teacher_prices
from ...llm.journal import Journal
from ...llm.protocol import Reply
from ...records import Candidate, CandidateKind
from ...run.directory import RunDir, is_run
from ...templates import teacher_prompts
from .forecast import Known, forecast, in_words
from .opening import originals_to_reflect, run_folder
from .reflector import NO_PAIR, Reflector

_PLACE = ["id", "candidate", "status", "reason"]


def estimate(config: ReflectConfig) -> str:
    """What a reflection of the whole input would ask for, in words; nothing is asked or written."""
    data, intake, settings = config.input.data, Intake(), config.teacher
    source = open_source(f"{data}/candidates" if is_run(data) else data)
    with _holding(config) as held:
        originals = originals_to_reflect(config, source)(intake)
        total = forecast(originals, teacher_prompts(settings.prompts), held)
    prices = teacher_prices(settings, settings.model or "")
    budget = Budget(prices=prices, half=settings.batch_api)
    cost = budget.price(total.prompt, total.completion) if prices else None
    waiting = sum(len(job.requests) for job in _submitted(config))
    said = in_words(total, settings, cost)
    if near := len(intake.near_duplicates):
        said += f"\n{near} near-duplicates are left out"
    if waiting:
        said += f"\n{waiting} of the calls are submitted as batch jobs already"
    return said


def _submitted(config: ReflectConfig) -> list[Job]:
    out = run_folder(config)
    if out is None or not is_run(out):
        return []
    folder = config.teacher.journal or out / "journal"
    return submitted(folder / "batches", RunDir(out).config["id"])


@contextmanager
def _holding(config: ReflectConfig) -> Iterator[Known]:
    """What the journal and the run hold already, if there are any."""
    settings, out = config.teacher, run_folder(config)
    folder = settings.journal or (out / "journal" if out else None)
    if folder is None or not folder.exists():
        yield lambda kind, pair: None
        return
    teacher = make_teacher(settings)
    asyncio.run(teacher.close())
    journal = Journal(folder, run="")
    reflector = Reflector(
        Asking(teacher, journal, Budget(), retry=settings.retry),
        teacher_prompts(settings.prompts),
        settings,
    )
    left = _left_failed(RunDir(out)) if out and is_run(out) else set()

    def known(kind: CandidateKind, pair: Candidate) -> tuple[Reply | None, Candidate] | None:
        found = reflector.known(kind, pair)
        if found is None and "failed" not in settings.retry and (pair.id, kind) in left:
            return None, reflector.unmade(kind, pair, "failed before")
        return found

    try:
        yield known
    finally:
        journal.close()


def _left_failed(run: RunDir) -> set[tuple[str, str]]:
    """The places whose requests failed for good: only `--retry` asks them again."""
    tables = (found[0] for path in run.shard_paths() if (found := read_parquet(path)))
    rows = (row for t in tables for row in t.select(_PLACE).to_pylist())
    return {
        (row["id"], row["candidate"])
        for row in rows
        if row["status"] == "failed" and row["reason"] != NO_PAIR
    }
