"""MT-Bench's files of answers -> examples: the question by its id, and the first turn's answer."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...config import InputConfig
from ...errors import CurateError, UsageError
from ...records import Example
from ..ingest import Intake
from ..readers import Row, Source, open_source
from .questions import Question, read_questions


def is_mt_bench(source: Source) -> bool:
    """Whether the first row is one of FastChat's answers."""
    first = next(iter(source.rows()), None)
    return isinstance(first, Row) and {"question_id", "choices"} <= first.values.keys()


def first_turns(source: Source, questions: str | None, intake: Intake) -> Iterator[Example]:
    """Of the first choice; answers to other questions are counted as rows alone.

    Raises CurateError for a row that is no answer, and where none is to a question of the set.
    """
    if questions is None:
        raise UsageError(
            f"{source.name} has answers by question_id and no questions: name the set that they "
            "answer with --questions"
        )
    found = read_questions(open_source(questions), InputConfig(data=questions), Intake())
    known = {question.id: question for question in found}
    for row in source.rows():
        intake.rows += 1
        values = row.values if isinstance(row, Row) else {}
        question, answer = known.get(str(values.get("question_id"))), _answer(values)
        if answer is None:
            raise CurateError(f"{row.place}: no text in choices[0].turns[0]")
        if question is not None:
            intake.records += 1
            yield _example(question, answer, values)
    if not intake.records:
        raise CurateError(f"{source.name} answers no question_id of {questions}")


def _answer(values: Mapping[str, Any]) -> str | None:
    try:
        answer = values["choices"][0]["turns"][0]
    except (KeyError, IndexError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def _example(question: Question, answer: str, values: Mapping[str, Any]) -> Example:
    return Example(
        id=question.id,
        instruction=question.turns[0],
        input=question.input,
        output=answer,
        extra={"generator": values.get("model_id"), "category": question.dataset},
    )
