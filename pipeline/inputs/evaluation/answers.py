"""Two models' answers to the same instructions, matched by text."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...config import InputConfig
from ...errors import CurateError
from ...records import Example, user_turn
from ..columns.texts import content_id
from ..examples import read_examples
from ..ingest import Intake
from ..model_files import told_apart
from ..readers import Source, open_source
from .mt_bench import first_turns, is_mt_bench


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPair:
    """One instruction with two answers."""

    id: str
    instruction: str
    input: str
    category: str | None
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The pairs, and what was left over: rows of either file without a counterpart."""

    pairs: list[AnswerPair]
    left: tuple[int, int]
    models: tuple[str, str]
    sources: tuple[Source, ...]
    """What the pairs are from: the two files, and the questions' where they have none."""


@dataclass(frozen=True, slots=True)
class _Answers:
    source: Source
    model: str
    by_text: dict[str, Example]
    rows: int


def match_answers(
    first: str, second: str, columns: InputConfig, questions: str | None = None
) -> Matched:
    """The instructions that both files answer, in the first one's order.

    Of several answers to one instruction the first counts; those of MT-Bench's form are to
    `questions`. Raises CurateError for a file that cannot be read or lacks a column, and where no
    instruction is in both.
    """
    a, b = (_answers(data, columns, questions) for data in (first, second))
    shared = [text for text in a.by_text if text in b.by_text]
    if not shared:
        example = next(iter(a.by_text))[:80]
        raise CurateError(
            f"{first} and {second} share no instruction: none of {len(a.by_text)} is among the "
            f"{len(b.by_text)} of the second, such as {example!r}; both must answer the same set"
        )
    return Matched(
        pairs=[_pair(a.by_text[text], b.by_text[text]) for text in shared[: columns.limit]],
        left=(a.rows - len(shared), b.rows - len(shared)),
        models=told_apart((a.model, b.model), (first, second)),
        sources=(a.source, b.source, *([open_source(questions)] if questions else [])),
    )


def _answers(data: str, columns: InputConfig, questions: str | None) -> _Answers:
    source, intake = open_source(data), Intake()
    by_text: dict[str, Example] = {}
    model = ""
    if is_mt_bench(source):
        rows = first_turns(source, questions, intake)
    else:
        rows = read_examples(source, replace(columns, data=data, limit=None), intake)
    for example in rows:
        by_text.setdefault(user_turn(example.instruction, example.input), example)
        model = model or str(example.extra.get("generator") or "")
    return _Answers(source, model or source.name, by_text, intake.rows)


def _pair(first: Example, second: Example) -> AnswerPair:
    texts = {"instruction": first.instruction, "input": first.input, "output": ""}
    return AnswerPair(
        id=content_id(texts),
        instruction=first.instruction,
        input=first.input,
        category=_category(first.extra) or _category(second.extra),
        answers=(first.output, second.output),
    )


def _category(extra: Mapping[str, Any]) -> str | None:
    found = extra.get("category") or extra.get("dataset")
    return str(found) if found else None
