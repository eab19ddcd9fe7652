"""Evaluation sets -> questions: the columns that the usual sets have, one turn or several."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from ...base.foreign_text import whole
from ...config import InputConfig
from ..columns.texts import content_id, present
from ..columns.turns import TURNS, Turn, turn_of
from ..ingest import Intake, Unusable, require_records, usable_rows
from ..readers import Source

ASKED = ("turns", "instruction", "Instruction", "prompt", "question", "text", *TURNS)
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


def read_questions(source: Source, config: InputConfig, intake: Intake) -> list[Question]:
    """The set's questions, in its order; a row that asks nothing is counted, or fatal if strict.

    Raises CurateError where no row is usable.
    """
    rows = usable_rows(source, intake, partial(_question, config=config), strict=config.strict)
    questions = [question for _, question in islice(rows, config.limit)]
    intake.records = len(questions)
    require_records(source, intake)
    return questions


def _question(values: Mapping[str, Any], config: InputConfig) -> Question:
    name = config.instruction_column or next((name for name in ASKED if name in values), None)
    if name is None or name not in values:
        raise Unusable(
            f"no column {name or ', '.join(ASKED)!r}; its columns are {', '.join(values)}: name it "
            "with --instruction-column"
        )
    turns, system = _turns(values[name], name)
    input = _input(values, config)
    ids = (present(values, key) for key in _IDS)
    given = next((id for id in ids if id not in (None, "")), None)
    given = whole(given) if isinstance(given, str) else given
    texts = {"instruction": "\n".join(turns), "input": input, "output": ""}
    dataset = present(values, "dataset") or present(values, "category")
    return Question(
        id=content_id(texts) if given is None else str(given),
        turns=turns,
        input=input,
        system=system,
        dataset=whole(str(dataset)) if dataset else None,
        question_id=given,
    )


def _turns(value: Any, name: str) -> tuple[tuple[str, ...], str | None]:
    """The user's turns and the system's, of a text, a list of texts or a list of messages."""
    turns = list(_read([value] if isinstance(value, str) else value, name))
    users = tuple(turn.text for turn in turns if turn.role == "user" and turn.text is not None)
    if not any(text.strip() for text in users):
        raise Unusable(f"{name!r} is empty")
    return users, next((turn.text for turn in turns if turn.role == "system"), None)


def _read(turns: Any, name: str) -> Iterator[Turn]:
    if not isinstance(turns, list):
        raise Unusable(f"{name!r} is neither text nor a list of turns")
    for number, given in enumerate(turns):
        if isinstance(given, str):  # all of `turns` are questions, every second of a conversation
            turn = Turn("assistant" if number % 2 and name in TURNS else "user", given)
        elif isinstance(given, dict):
            turn = turn_of(given, name)
        else:
            turn = Turn("user", None)
        if turn.text is None and turn.role != "system":
            raise Unusable(f"a turn of {name!r} has no text")
        yield replace(turn, text=turn.text and whole(turn.text))


def _input(values: Mapping[str, Any], config: InputConfig) -> str:
    """The input's column, or the first of Self-Instruct's `instances`."""
    name = config.input_column or "input"
    if config.input_column and name not in values:
        raise Unusable(f"no column {name!r}")
    instances = values.get("instances")
    nested = name not in values and isinstance(instances, list) and instances
    found = instances[0] if nested and isinstance(instances, list) else values
    value = present(found, name) if isinstance(found, dict) else None
    if value is not None and not isinstance(value, str):
        raise Unusable(f"{name!r} is not text")
    return whole(value or "")
