"""`curate synthesize`: seeds -> new instructions of a teacher, round by round; nothing twice."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ...base.progress import Progress, say
from ...base.tables import many
from ...config import SynthesisMethod, SynthesizeConfig, recorded_options
from ...inputs.evaluation.evaluation_sets import evaluation_texts, open_sets
from ...inputs.examples import input_identity
from ...inputs.ingest import Intake
from ...inputs.readers import Source, open_source
from ...llm.job import Job, asking_job
from ...llm.protocol import Engine
from ...method.corpus.decontamination import EvaluationIndex
from ...runs.directory import RunDir
from ...runs.importing import say_unused, write_unused
from ...runs.instructions import counted, publish, read_round, rounds, write_round
from ...templates import prompts_version
from . import evol, self_instruct
from .card import synthesis_card
from .rounds import Method, Pool, RoundAsker
from .seeds import Seeds, read_seeds

PROMPTS: Mapping[SynthesisMethod, Sequence[str]] = {
    "self-instruct": self_instruct.PROMPTS, "evol": evol.PROMPTS,
}  # fmt: skip
SLOTS: Mapping[SynthesisMethod, Sequence[str]] = {
    "self-instruct": self_instruct.SLOTS, "evol": evol.SLOTS,
}  # fmt: skip
OWN: Mapping[SynthesisMethod, Sequence[str]] = {
    "self-instruct": ("language",), "evol": ("number", "rounds", "no_equality"),
}  # fmt: skip
"""Options that are part of a run's identity with one method alone."""
NO_REPLY = ("failed", "unparsed", "truncated", "refused")
"""Reasons of what had no usable reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesizeResult:
    """What the run holds; `asked` and `reused` are this invocation's."""

    run: Path
    seeds: int
    rounds: int
    instructions: int
    rows: int
    """Of `instructions/`: an instruction with several instances has as many."""
    left_out: dict[str, int]
    """Reasons, counted."""
    missing: int
    """Of self-instruct: what lacks to the number; of evol: evolutions without a usable reply."""
    asked: int
    reused: int
    tokens: tuple[int, int]
    cost: float | None

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "run": str(self.run)}


def synthesize(config: SynthesizeConfig) -> SynthesizeResult:
    """Make rounds until the number is reached; what finished rounds or the journal hold stays.

    After an error what finished rounds made is published all the same.
    """
    source, intake = open_source(config.input.data), Intake()
    seeds = read_seeds(source, config, intake)
    sets, version = open_sets(config.decontaminate), prompts_version(*PROMPTS[config.method])
    with asking_job(
        config.sampling,
        "synthesize",
        create_run=lambda engine: _create_run(config, source, sets, version, engine),
        version=version,
        slots=SLOTS[config.method],
    ) as job:
        texts = chain.from_iterable(map(evaluation_texts, sets))
        evaluation = EvaluationIndex(texts, n=config.ngram) if sets else None
        with _published(job.run, config):
            job.complete(lambda: _make_rounds(config, job, seeds, evaluation))
        return _finished(config, job, seeds, intake)


def _create_run(
    config: SynthesizeConfig, source: Source, sets: Sequence[Source], version: str, engine: Engine
) -> RunDir:
    sampling = config.sampling
    identity = {
        "command": "synthesize",
        **input_identity(source, config.input),
        "limit": config.input.limit,
        "method": config.method,
        "teacher": engine.name,
        "revision": engine.revision,
        "prompts": version,
        **sampling.sampling,
        "presence_penalty": sampling.presence_penalty,
        "answers": config.answers,
        "decontaminate": [one.fingerprint for one in sets],
        "ngram": config.ngram if sets else None,
    }
    identity |= {name: getattr(config, name) for name in OWN[config.method]}
    notes = {"data": source.name, "licence": source.licence}
    return RunDir.create(config.out, identity, **notes, options=recorded_options(config))


# --- rounds ---------------------------------------------------------------------------------------


async def _make_rounds(
    config: SynthesizeConfig, job: Job, seeds: Seeds, evaluation: EvaluationIndex | None
) -> None:
    """Make each round that is missing, after what the finished ones left."""
    with Progress("synthesize", total=config.number, unit="instructions") as progress:
        method = _method(config, job, progress, evaluation)
        pool = Pool()
        finished = rounds(job.run)
        for rows in [read_round(job.run, path) for path in finished] or [list(seeds.rows)]:
            pool.add(rows)
        progress.advance(len(pool.made))
        number = len(finished) or 1
        if job.run.stage("synthesize") and not method.is_done(pool, number):
            job.run.forget_stage("synthesize")  # of a smaller number
        while not method.is_done(pool, number):
            rows = await method.round(pool, number)
            if number == 1:  # not before something is paid for
                write_round(job.run, 0, seeds.rows)
            write_round(job.run, number, rows)
            pool.add(rows)
            progress.advance(len(pool.made) - progress.done)
            number += 1


def _method(
    config: SynthesizeConfig, job: Job, progress: Progress, evaluation: EvaluationIndex | None
) -> Method:
    asker = RoundAsker(config, job, progress)
    if config.method == "evol":
        return evol.Evol(asker, evaluation)
    identity = json.dumps(job.run.config["identity"], sort_keys=True)
    run = hashlib.sha256(identity.encode()).hexdigest()[:6]
    return self_instruct.SelfInstruct(asker, evaluation, run=run)


# --- the end --------------------------------------------------------------------------------------


@contextmanager
def _published(run: RunDir, config: SynthesizeConfig) -> Iterator[None]:
    """After the body, publish what finished rounds hold, also where it stopped before the end."""
    try:
        yield
    finally:
        if len(rounds(run)) > 1:
            publish(run, config.number, synthesis_card(run, _counts(run, config)))


def _counts(run: RunDir, config: SynthesizeConfig) -> dict[str, Any]:
    kept, left_out = counted(run, config.number)
    instructions = len(set(kept))
    missing = config.number - instructions
    if config.method == "evol":
        missing = sum(left_out[reason] for reason in NO_REPLY)
    return {
        "rounds": len(rounds(run)) - 1,
        "instructions": instructions,
        "rows": len(kept),
        "left_out": dict(sorted(left_out.items())),
        "missing": missing,
    }


def _finished(config: SynthesizeConfig, job: Job, seeds: Seeds, intake: Intake) -> SynthesizeResult:
    write_unused(job.run.path, intake)
    say_unused(intake.counts(), f"{job.run.path}/")
    if seeds.duplicates:
        say(f"note: {seeds.duplicates} seeds repeat others")
    counts, asker = _counts(job.run, config), job.asker
    result = SynthesizeResult(
        run=job.run.path,
        seeds=len(seeds.rows),
        asked=asker.counts.asked,
        reused=asker.counts.from_journal,
        tokens=asker.budget.spent,
        cost=asker.budget.cost,
        **counts,
    )
    about = {"number": config.number, "duplicate_seeds": seeds.duplicates}
    entry = {"input": intake.counts(), **about, **result.as_dict()}
    job.run.finish_stage("synthesize", entry)
    return result


def lines(result: SynthesizeResult) -> Iterator[str]:
    """For people."""
    yield (
        f"made {result.instructions} instructions of {result.seeds} seeds in "
        f"{many(result.rounds, 'round')}: {result.run / 'instructions'}"
    )
    if result.rows > result.instructions:
        yield f"{result.rows} rows, one for each instance"
    counted = ", ".join(f"{number} {reason}" for reason, number in result.left_out.items())
    yield f"left out: {counted or 'none'}: {result.run / 'left_out'}"
    yield (
        f"{result.asked} asked for, {result.reused} taken from the journal, {result.tokens[0]:,} "
        f"prompt and {result.tokens[1]:,} completion tokens in all"
    )
