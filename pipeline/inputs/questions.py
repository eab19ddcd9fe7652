"""Evaluation sets -> questions: the columns that the usual sets have, one turn or several."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import InputConfig
from ..errors import CurateError
from .ingest import Intake, content_id
from .readers import Row, Source

ASKED = ("turns", "instruction", "Instruction", "prompt", "question", "text", "messages",
         "conversations")  # fmt: skip
CONVERSATIONS = ("messages", "conversations")
_IDS = ("question_id", "id", "idx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, turn after turn; `input` and `system` belong to the first."""

    id: str
    turns: tuple[str, ...]
    input: str = ""
    system: str | None = None
    dataset: str | None = None
    question_id: Any = None
    """As the set has it, a number perhaps."""


class _Unusable(Exception):
    """Why a row asks nothing."""


def read_questions(source: Source, config: InputConfig, intake: Intake) -> list[Question]:
    """The set's questions, in its order; a row that asks nothing is counted, or fatal if strict.

    Raises CurateError where no row is usable.
    """
    questions: list[Question] = []
    for row in source.rows():
        if config.limit is not None and len(questions) >= config.limit:
            break
        intake.rows += 1
        try:
            if not isinstance(row, Row):
                raise _Unusable(row.reason)
            questions.append(_question(row.values, config))
        except _Unusable as error:
            if config.strict:
                raise CurateError(f"{row.place}: {error} (--strict)") from None
            intake.reject(row.place, str(error))
    intake.records = len(questions)
    if not intake.rows:
        raise CurateError(f"{source.name} is empty: it has no rows")
    if not questions:
        first = intake.rejected[0]
        raise CurateError(
            f"none of the {intake.rows} rows of {source.name} is usable; the first, "
            f"{first.place}: {first.reason}"
        )
    return questions


def _question(values: Mapping[str, Any], config: InputConfig) -> Question:
    name = config.instruction_column or next((name for name in ASKED if name in values), None)
    if name is None or name not in values:
        raise _Unusable(
            f"no column {name or ', '.join(ASKED)!r}; its columns are {', '.join(values)}: name it "
            "with --instruction-column"
        )
    turns, system = _turns(values[name], name)
    input = _input(values, config)
    given = next((values[key] for key in _IDS if values.get(key) not in (None, "")), None)
    texts = {"instruction": "\n".join(turns), "input": input, "output": ""}
    dataset = values.get("dataset") or values.get("category")
    return Question(
        id=content_id(texts) if given is None else str(given),
        turns=turns,
        input=input,
        system=system,
        dataset=str(dataset) if dataset else None,
        question_id=given,
    )


def _turns(value: Any, name: str) -> tuple[tuple[str, ...], str | None]:
    """The user's turns and the system's, of a text, a list of texts or a list of messages."""
    said = list(_said([value] if isinstance(value, str) else value, name))
    users = tuple(text for role, text in said if role == "user")
    if not any(text.strip() for text in users):
        raise _Unusable(f"{name!r} is empty")
    return users, next((text for role, text in said if role == "system"), None)


def _said(turns: Any, name: str) -> Iterator[tuple[str, str]]:
    if not isinstance(turns, list):
        raise _Unusable(f"{name!r} is neither text nor a list of turns")
    for number, turn in enumerate(turns):
        if isinstance(turn, str):  # all of `turns` are questions, every second of a conversation
            yield ("assistant" if number % 2 and name in CONVERSATIONS else "user"), turn
            continue
        role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
        text = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
        if not isinstance(text, str):
            raise _Unusable(f"a turn of {name!r} has no text")
        yield "user" if role == "human" else str(role), text


def _input(values: Mapping[str, Any], config: InputConfig) -> str:
    """The input's column, or the first of Self-Instruct's `instances`."""
    name = config.input_column or "input"
    if config.input_column and name not in values:
        raise _Unusable(f"no column {name!r}")
    instances = values.get("instances")
    nested = name not in values and isinstance(instances, list) and instances
    found = instances[0] if nested and isinstance(instances, list) else values
    value = found.get(name) if isinstance(found, dict) else None
    if value is not None and not isinstance(value, str):
        raise _Unusable(f"{name!r} is not text")
    return value or ""
