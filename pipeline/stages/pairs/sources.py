"""What pairs are made of: a run, a file of verdicts, rated samples, or demonstrations."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...base.checksums import crc32_of
from ...config import PairsConfig
from ...errors import CurateError, UsageError
from ...inputs.evaluation.judgments import holds_verdicts, read_log
from ...inputs.examples import input_identity
from ...inputs.ingest import Intake
from ...inputs.inline import InlineData
from ...inputs.readers import open_source
from ...method.preferences.rivals import Rivals
from ...method.preferences.selection import record_rivals
from ...pair_records import PairSource, Unpaired
from ...runs.directory import RunDir, is_run
from ...runs.selection_names import found_key, scored_students
from ...scoring.identity import noted_identity
from ...scoring.score_files import ScoreFiles, noted_noise, read_records
from .demonstrations import demonstration_rivals
from .rated import rated_rivals
from .verdicts import judged_rivals

RivalStream = Callable[[Intake], Iterator[Rivals | Unpaired]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairData:
    """The answers that compete, and what identifies them."""

    source: PairSource
    name: str
    identity: Mapping[str, Any]
    rivals: RivalStream
    noise: float = 0.0
    """The rounding noise of one mean NLL (nats)."""
    licence: str | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    """For the card: what else is to be said of the data."""


def open_pair_data(config: PairsConfig) -> PairData:
    """Open the data as what they are; CurateError for what is none of the four."""
    data = config.input.data
    run = config.against is None and is_run(data)
    if config.student is not None and not run:
        raise UsageError(f"--student names a student of a run, and {data} is none")
    if not run and config.against is None and not _are_verdicts(data):
        return _samples(config)
    if config.tier or config.choose != "best-worst":
        raise UsageError(f"--choose and --tier are for several rated samples; {data} holds none")
    if config.against is not None:
        return _demonstrations(config, config.against)
    return _run(config) if run else _verdicts(config)


def _are_verdicts(data: str) -> bool:
    """Of a file alone: rows from standard input or in memory are samples, and read once."""
    return data != "-" and not isinstance(data, InlineData) and holds_verdicts(Path(data))


def _run(config: PairsConfig) -> PairData:
    run = RunDir.open(config.input.data)
    key = _student(run, config.student)
    folder = run.path / "scores" / key
    files = ScoreFiles(run, noted_identity(folder))
    return PairData(
        source="selection",
        name=run.path.resolve().name,
        identity={
            "input": open_source(str(run.candidates)).fingerprint,
            "student": key,
            "scores": _fingerprint(sorted(folder.glob("part-*.parquet"))),
        },
        rivals=lambda _: _run_rivals(run, files),
        noise=noted_noise(folder / "noise.json") or 0.0,
        licence=run.config.get("licence"),
        origin={"Student, whose r-IFD chose": key},
    )


def _fingerprint(paths: list[Path]) -> str:
    """A hash of the files' checksums."""
    return hashlib.sha256(repr([crc32_of(path) for path in paths]).encode()).hexdigest()


def _student(run: RunDir, wanted: str | None) -> str:
    found = scored_students(run)
    if wanted is not None and found:
        return found_key(run, wanted, found, flag="student")
    if not found:
        raise CurateError(f"{run.path} has no scores yet: run `curate select` first")
    if len(found) > 1:
        raise CurateError(
            f"{run.path} has scores of several students: name one with --student, of "
            f"{', '.join(found)}"
        )
    return found[0]


def _run_rivals(run: RunDir, files: ScoreFiles) -> Iterator[Rivals | Unpaired]:
    """Each record's, a shard in memory at a time."""
    for shard in run.shard_paths():
        records = read_records(run, shard)
        for record, scores in zip(records, files.read(shard, records), strict=True):
            yield from record_rivals(record, scores)


def _verdicts(config: PairsConfig) -> PairData:
    path = Path(config.input.data)
    log = read_log(path)
    if log.kind != "pairs":
        raise CurateError(f"{path} holds {log.kind}: pairs are made of verdicts in both orders")
    source = open_source(str(path))
    names = {"Judge": "judge", "First model": "model_1", "Second model": "model_2"}
    return PairData(
        source="verdicts",
        name=str(path),
        identity=input_identity(source, config.input),
        rivals=partial(judged_rivals, log, source, config.input),
        origin={name: str(log.about[key]) for name, key in names.items() if key in log.about},
    )


def _samples(config: PairsConfig) -> PairData:
    source = open_source(config.input.data)
    made_by: PairSource = "rso" if config.choose == "rso" else "ratings"
    return PairData(
        source=made_by,
        name=source.name,
        identity=input_identity(source, config.input),
        rivals=lambda intake: rated_rivals(source, config.input, intake, made_by),
        licence=source.licence,
    )


def _demonstrations(config: PairsConfig, against: str) -> PairData:
    source, answers = open_source(config.input.data), open_source(against)
    return PairData(
        source="demonstrations",
        name=source.name,
        identity={**input_identity(source, config.input), "against": answers.fingerprint},
        rivals=lambda intake: demonstration_rivals(source, answers, config.input, intake),
        licence=source.licence,
        origin={"Rejected answers": f"{answers.name} (fingerprint {answers.fingerprint[:16]})"},
    )
