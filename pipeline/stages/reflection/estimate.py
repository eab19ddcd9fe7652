"""`curate reflect --dry-run`: what a reflection would ask for, cost and take, asking nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ...base.files import read_parquet
from ...config import ReflectConfig
from ...errors import RequestFailed
from ...inputs.ingest import Intake
from ...llm.ask import Asker
from ...llm.budget import Budget
from ...llm.engines.choose import is_sold, make_engine, model_prices
from ...llm.engines.servers.batch_notes import Job, submitted
from ...llm.journal import Journal
from ...llm.protocol import Reply
from ...records import NO_PAIR, Candidate, CandidateKind
from ...runs.directory import RunDir, is_run
from ...templates import teacher_prompts
from .forecast import Find, forecast, forecast_text
from .reflector import Reflector
from .sources import open_data, originals_to_reflect, run_folder

_COLUMNS = ["id", "candidate", "status", "reason"]


def estimate(config: ReflectConfig) -> str:
    """What a reflection of the whole input would ask for, as text; nothing is asked or written."""
    intake, settings = Intake(), config.teacher
    source = open_data(config)
    with _paid_for(config) as find:
        originals = originals_to_reflect(config, source)(intake)
        prompts, selective = teacher_prompts(settings.prompts), config.schedule == "selective"
        total = forecast(originals, prompts, find, selective=selective)
    budget = Budget(prices=model_prices(settings), sold=is_sold(settings), half=settings.batch_api)
    cost = budget.price(total.prompt, total.completion)
    waiting = sum(len(job.requests) for job in _submitted(config))
    about = "about " if cost is not None else "cost " if budget.sold else ""
    text = forecast_text(total, settings, about + budget.cost_text(cost, digits=2))
    if near := len(intake.near_duplicates):
        text += f"\n{near} near-duplicates are left out"
    if waiting:
        text += f"\n{waiting} of the calls are submitted as batch jobs already"
    return text


def _submitted(config: ReflectConfig) -> list[Job]:
    out = run_folder(config)
    if out is None or not is_run(out):
        return []
    folder = config.teacher.journal or out / "journal"
    return submitted(folder / "batches", RunDir(out).config["id"])


@contextmanager
def _paid_for(config: ReflectConfig) -> Iterator[Find]:
    """What the journal and the run have already, if there are any."""
    settings, out = config.teacher, run_folder(config)
    folder = settings.journal or (out / "journal" if out else None)
    if folder is None or not folder.exists():
        yield lambda kind, pair: None
        return
    engine, prompts = make_engine(settings), teacher_prompts(settings.prompts)
    journal = Journal(folder, run="")
    asker = Asker(engine, journal, Budget(), settings, version=prompts.version)
    reflector = Reflector(asker, prompts)
    left = _left_failed(RunDir(out)) if out and is_run(out) else set()

    def find(kind: CandidateKind, pair: Candidate) -> tuple[Reply | None, Candidate] | None:
        try:
            found = reflector.find(kind, pair)
        except RequestFailed as error:
            return None, reflector.failed(kind, pair, str(error))
        if found is None and "failed" not in settings.retry and (pair.id, kind) in left:
            return None, reflector.failed(kind, pair, "failed before")
        return found

    try:
        yield find
    finally:
        asyncio.run(asker.close())


def _left_failed(run: RunDir) -> set[tuple[str, str]]:
    """The candidates whose requests failed for good: only `--retry` asks them again."""
    tables = (found[0] for path in run.shard_paths() if (found := read_parquet(path)))
    rows = (row for t in tables for row in t.select(_COLUMNS).to_pylist())
    return {
        (row["id"], row["candidate"])
        for row in rows
        if row["status"] == "failed" and row["reason"] != NO_PAIR
    }
