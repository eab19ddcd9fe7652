"""What a reflection begins with: the run of that identity, and its originals."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ...config import InputConfig, ReflectConfig, recorded_options
from ...errors import CurateError, UsageError
from ...inputs.examples import as_original, input_identity, read_examples
from ...inputs.ingest import Intake
from ...inputs.readers import Source, open_source
from ...llm.protocol import Teacher
from ...records import Candidate
from ...run.directory import RunDir, is_run
from ...run.importing import originals_of
from ...templates import teacher_prompts
from .deduplication import Originals, without_duplicates


@dataclass(frozen=True, slots=True)
class Opened:
    """The run, its originals, and how many they may be at the most, where that is known."""

    run: RunDir
    originals: Originals
    total: int | None


def open_run(config: ReflectConfig, teacher: Teacher) -> Opened:
    """Make the run or take it up. Raises CurateError naming what may not change."""
    data, out = config.input.data, run_folder(config)
    if out is None:
        raise UsageError("--out is needed: the input is no run directory")
    inside = is_run(data) and Path(data).resolve() == out.resolve()
    if inside and RunDir.open(data).stage("reflect") is not None:
        run = RunDir.open(data)
        given = {**_teacher_identity(config, teacher), **_dedup_identity(config)}
        made = RunDir.create(out, {**run.config["identity"], **given})
        return Opened(made, partial(originals_of, run), run.num_records)
    if inside:
        raise CurateError(
            f"reflect has not finished in {data}: run it again with the data it began with"
        )
    source = open_source(f"{data}/candidates" if is_run(data) else data)
    identity = {
        "command": "reflect",
        **input_identity(source, config.input),
        **_teacher_identity(config, teacher),
        **_dedup_identity(config),
    }
    options = recorded_options(config)
    notes = {"data": source.name, "licence": source.licence, "options": options}
    count = RunDir.open(data).num_records if is_run(data) else source.count()
    run = RunDir.create(out, identity, **notes)
    return Opened(run, originals_to_reflect(config, source), _at_most(config.input.limit, count))


def run_folder(config: ReflectConfig) -> Path | None:
    """Where the run is or will be."""
    data = config.input.data
    return config.out or (Path(data) if is_run(data) else None)


def originals_to_reflect(config: ReflectConfig, source: Source) -> Originals:
    """The originals of a data set, or of another run, that `--dedup` leaves."""
    return without_duplicates(partial(_originals, config.input, source), config)


def _originals(input: InputConfig, source: Source, intake: Intake) -> Iterator[Candidate]:
    if is_run(input.data):
        return islice(originals_of(RunDir.open(input.data), intake), input.limit)
    return map(as_original, read_examples(source, input, intake))


def _at_most(limit: int | None, count: int | None) -> int | None:
    return count if limit is None else min(limit, count if count is not None else limit)


def _teacher_identity(config: ReflectConfig, teacher: Teacher) -> dict[str, Any]:
    return {
        "teacher": teacher.name,
        "revision": teacher.revision,
        "prompts": teacher_prompts(config.teacher.prompts).version,
        "temperature": config.teacher.temperature,
        "seed": config.teacher.seed,
        "schedule": config.schedule,
    }


def _dedup_identity(config: ReflectConfig) -> dict[str, Any]:
    if config.dedup == "off":
        return {}
    near = {"dedup_threshold": config.dedup_threshold} if config.dedup == "near" else {}
    return {"dedup": config.dedup, **near}
