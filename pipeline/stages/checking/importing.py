"""Replies from elsewhere -> the problems and samples of a run."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from ...config import CheckConfig
from ...errors import CurateError
from ...inputs.columns import columns_of, require_column
from ...inputs.examples import chunks
from ...inputs.ingest import Intake, content_id
from ...inputs.problems import QUESTIONS
from ...inputs.readers import Row, Source
from ...run.directory import RunDir
from ...run.importing import SHARD, write_unused
from ...run.samples import Attempted, Problem, Sample, SampleStatus, write_problems, write_samples
from .solutions import extra_without

REPLIES = ("reply", "output")
_CUT = ("length", "max_tokens")


def import_samples(run: RunDir, source: Source, config: CheckConfig) -> None:
    """Write the data set as shards; does nothing when that is done."""
    if run.stage("import") is not None:
        return
    intake = Intake()
    records = 0
    for index, chunk in enumerate(chunks(_attempted(source, config, intake), SHARD)):
        write_problems(run, index, [one.problem for one in chunk])
        write_samples(run, index, [sample for one in chunk for sample in one.samples])
        records += len(chunk)
    if not records:
        first = intake.rejected[0]
        raise CurateError(
            f"none of the {intake.rows} rows of {source.name} can be checked; the first, "
            f"{first.place}: {first.reason}"
        )
    write_unused(run.path, intake)
    run.finish_stage("import", {"from": source.name, "input": intake.counts(), "records": records})


def _attempted(source: Source, config: CheckConfig, intake: Intake) -> Iterator[Attempted]:
    columns = columns_of(source)
    input = config.input
    names = {
        "answer": require_column(source, columns, config.answer_column, (), "--answer-column"),
        "reply": require_column(source, columns, input.output_column, REPLIES, "--output-column"),
        "question": require_column(
            source, columns, input.instruction_column, QUESTIONS, "--instruction-column"
        ),
        "input": input.input_column or "input",
    }
    seen: set[str] = set()
    rows = _usable(source, config, names, intake)
    for id, group in groupby(rows, key=lambda row: row["id"]):
        if id in seen:
            raise CurateError(
                f"the rows of {id!r} in {source.name} do not stand together: sort them by id"
            )
        if input.limit is not None and len(seen) >= input.limit:
            return
        seen.add(id)
        intake.records += 1
        yield _one(id, list(group), config, names)


def _usable(
    source: Source, config: CheckConfig, names: dict[str, str], intake: Intake
) -> Iterator[dict[str, Any]]:
    for row in source.rows():
        intake.rows += 1
        reason = None if isinstance(row, Row) else row.reason
        if isinstance(row, Row):
            values = row.values
            texts = {name: _text(values.get(names[name])) for name in ("question", "answer")}
            missing = [names[name] for name, text in texts.items() if text is None]
            if not missing:
                given = values.get("id")
                content = {"instruction": texts["question"], "output": texts["answer"]}
                id = content_id(content) if given in (None, "") else str(given)
                yield {"id": id, "values": values, **texts}
                continue
            reason = f"no text in {missing[0]!r}"
        if config.input.strict:
            raise CurateError(f"{row.place}: {reason} (--strict)")
        intake.reject(row.place, str(reason))


def _text(value: Any) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _one(
    id: str, rows: list[dict[str, Any]], config: CheckConfig, names: dict[str, str]
) -> Attempted:
    first = rows[0]
    values = first["values"]
    used = ("id", "sample", "status", "finish_reason", *names.values(), config.task_column)
    task = values.get(config.task_column)
    problem = Problem(
        id=id,
        instruction=first["question"],
        input=_text(values.get(names["input"])) or "",
        answer=first["answer"],
        task=None if task is None else str(task),
        extra=extra_without(values, used),
    )
    samples = (_sample(id, n, row["values"], names["reply"]) for n, row in enumerate(rows))
    return Attempted(problem, tuple(samples))


def _sample(id: str, number: int, values: dict[str, Any], column: str) -> Sample:
    reply = _text(values.get(column))
    status: SampleStatus = "ok" if reply is not None else "failed"
    if values.get("finish_reason") in _CUT:
        status = "truncated"
    elif values.get("status") in ("truncated", "refused", "failed"):
        status = values["status"]
    given = values.get("sample")
    sample = given if isinstance(given, int) else number
    return Sample(id=id, sample=sample, reply=reply, status=status)
