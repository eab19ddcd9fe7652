"""Data sets of questions with answers -> problems, each once, in the data set's order."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..config import InputConfig
from ..records import Example
from .columns.column_names import columns_of, require_column
from .examples import read_examples
from .ingest import Intake
from .readers import Source

QUESTIONS = ("instruction", "question", "problem", "prompt")
_MARKER = "####"


def read_problems(
    source: Source, config: InputConfig, answer_column: str, intake: Intake
) -> Iterator[Example]:
    """The problems as examples whose output is the given answer; a number counts as text.

    Of an answer that ends in a line `#### X`, as in GSM8K, X is taken. Raises CurateError, listing
    the columns, where there is none of questions or answers.
    """
    columns = columns_of(source)
    answer = require_column(source, columns, answer_column, (), "--answer-column")
    question = require_column(
        source, columns, config.instruction_column, QUESTIONS, "--instruction-column"
    )
    named = replace(config, instruction_column=question, output_column=answer, turns="last")
    found = read_examples(source, named, intake)
    return (
        replace(example, output=example.output.rpartition(_MARKER)[2].strip()) for example in found
    )


def task_of(example: Example, column: str) -> str | None:
    """The task that a problem's row names, as text."""
    value: Any = example.extra.get(column)
    return None if value is None else str(value)
