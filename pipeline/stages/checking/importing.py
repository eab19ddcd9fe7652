"""Replies from elsewhere -> the problems and samples of a run."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from ...base.foreign_text import whole
from ...config import CheckConfig
from ...errors import CurateError
from ...inputs.columns.column_names import columns_of, require_column
from ...inputs.columns.texts import (
    content_id,
    json_text,
    optional_text,
    present,
    required_text,
    row_id,
)
from ...inputs.examples import chunks
from ...inputs.ingest import Intake, require_records, usable_rows
from ...inputs.problems import QUESTIONS
from ...inputs.readers import Source
from ...method.replies.endings import incomplete
from ...runs.directory import RunDir
from ...runs.importing import SHARD, write_unused
from ...runs.samples import (
    PROBLEMS,
    SAMPLE_STATUSES,
    SAMPLES,
    Attempted,
    Problem,
    Sample,
    SampleStatus,
    sample_status,
    write_shard,
)

REPLIES = ("reply", "output")


def import_samples(run: RunDir, source: Source, config: CheckConfig) -> None:
    """Write the data set as shards; does nothing when that is done."""
    if run.stage("import") is not None:
        return
    intake = Intake()
    records = 0
    for index, chunk in enumerate(chunks(_attempted(source, config, intake), SHARD)):
        write_shard(run, PROBLEMS, index, [one.problem for one in chunk])
        samples = [sample for one in chunk for sample in one.samples]
        write_shard(run, SAMPLES, index, samples)
        records += len(chunk)
    require_records(source, intake)
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
    found = usable_rows(source, intake, partial(_read, names=names), strict=input.strict)
    for id, group in groupby((row for _, row in found), key=itemgetter(0)):
        if id in seen:
            raise CurateError(
                f"the rows of {id!r} in {source.name} do not stand together: sort them by id"
            )
        if input.limit is not None and len(seen) >= input.limit:
            return
        seen.add(id)
        intake.records += 1
        yield _one(id, [values for _, values in group], config, names)


def _read(values: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """The id of a reply's problem, and the row."""
    question, answer = (required_text(values, names[name]) for name in ("question", "answer"))
    return row_id(values) or content_id({"instruction": question, "output": answer}), values


def _one(
    id: str, rows: list[Mapping[str, Any]], config: CheckConfig, names: Mapping[str, str]
) -> Attempted:
    values = rows[0]
    used = ("id", "sample", "status", "finish_reason", *names.values(), config.task_column)
    task = present(values, config.task_column)
    further = {name: value for name, value in values.items() if name not in used}
    problem = Problem(
        id=id,
        instruction=whole(required_text(values, names["question"])),
        input=whole(optional_text(values, names["input"]) or ""),
        answer=whole(required_text(values, names["answer"])),
        task=None if task is None else str(task),
        extra=whole(json_text(further)) if further else None,
    )
    samples = (_sample(id, n, row, names["reply"]) for n, row in enumerate(rows))
    return Attempted(problem, tuple(samples))


def _sample(id: str, number: int, values: Mapping[str, Any], column: str) -> Sample:
    reply = present(values, column)
    text = whole(reply) if isinstance(reply, str) else None
    status: SampleStatus = "ok" if text is not None else "failed"
    if values.get("status") in SAMPLE_STATUSES:
        status = values["status"]
    if ended := incomplete(optional_text(values, "finish_reason")):
        status = sample_status(ended[0])
    given = values.get("sample")
    return Sample(
        id=id, sample=given if isinstance(given, int) else number, reply=text, status=status
    )
