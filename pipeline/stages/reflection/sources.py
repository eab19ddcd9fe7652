"""What is reflected: the originals of a data set or of a run, and the run that they go to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ...config import InputConfig, ReflectConfig, recorded_options
from ...errors import CurateError
from ...inputs.examples import as_original, input_identity, read_examples
from ...inputs.ingest import Intake
from ...inputs.readers import Source, open_source
from ...llm.protocol import Engine
from ...records import Candidate
from ...runs.directory import RunDir, is_run, out_needed
from ...runs.importing import originals_of
from ...templates import teacher_prompts
from .deduplication import Originals, without_duplicates


@dataclass(frozen=True, slots=True)
class Prepared:
    """The originals, how many they may be at the most where that is known, and how to make the run.

    `create_run` makes the run of the engine's model or takes it up. It raises CurateError naming
    what may not change.
    """

    originals: Originals
    total: int | None
    create_run: Callable[[Engine], RunDir]


def prepare(config: ReflectConfig) -> Prepared:
    """Look at the input. Raises CurateError where it cannot be read or there is no place for it."""
    data, out = config.input.data, run_folder(config)
    if out is None:
        raise out_needed(data)
    inside = is_run(data) and Path(data).resolve() == out.resolve()
    if inside and (run := RunDir.open(data)).stage("reflect") is not None:
        identity = run.config["identity"]
        return Prepared(
            partial(originals_of, run),
            run.num_records,
            lambda engine: RunDir.create(out, {**identity, **_identity(config, engine)}),
        )
    if inside:
        raise CurateError(
            f"reflect has not finished in {data}: run it again with the data it began with"
        )
    source = open_data(config)
    identity = {"command": "reflect", **input_identity(source, config.input)}
    options = recorded_options(config)
    notes = {"data": source.name, "licence": source.licence, "options": options}
    count = RunDir.open(data).num_records if is_run(data) else source.count()
    return Prepared(
        originals_to_reflect(config, source),
        min((n for n in (config.input.limit, count) if n is not None), default=None),
        lambda engine: RunDir.create(out, {**identity, **_identity(config, engine)}, **notes),
    )


def open_data(config: ReflectConfig) -> Source:
    """The data set, or the candidates of a run."""
    data = config.input.data
    return open_source(f"{data}/candidates" if is_run(data) else data)


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


def _identity(config: ReflectConfig, engine: Engine) -> dict[str, Any]:
    return {
        "teacher": engine.name,
        "revision": engine.revision,
        "prompts": teacher_prompts(config.teacher.prompts).version,
        **config.teacher.sampling,
        "schedule": config.schedule,
        **_dedup_identity(config),
    }


def _dedup_identity(config: ReflectConfig) -> dict[str, Any]:
    if config.dedup == "off":
        return {}
    near = {"dedup_threshold": config.dedup_threshold} if config.dedup == "near" else {}
    return {"dedup": config.dedup, **near}
