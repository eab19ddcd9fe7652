"""Answers -> the formats of AlpacaEval and MT-Bench, and plain JSON Lines."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base.files import write_json, write_json_lines
from ...config import AnswerFormat
from ...pair_records import Prompt, Sample
from ...records import conversation
from .questions import Question


@dataclass(frozen=True, slots=True)
class Answer:
    """A question's answered turns; `failure` is why the next one is missing."""

    question: Question
    turns: tuple[str, ...]
    cut: bool = False
    failure: str | None = None
    sample: int | None = None
    """Which of the question's several answers it is."""
    finish_reason: str | None = None
    reply_key: str | None = None

    def as_sample(self, model: str) -> Sample:
        """The answer to a question of one turn."""
        asked = self.question
        return Sample(
            id=asked.id,
            prompt=Prompt(instruction=asked.turns[0], input=asked.input, system=asked.system),
            output=self.turns[0],
            sample=self.sample,
            model=model,
            finish_reason=self.finish_reason,
            reply_key=self.reply_key,
        )


def write_answers(out: Path, form: AnswerFormat, answers: list[Answer], model: str) -> None:
    """Write the file, atomically; `model` is the name that it goes by."""
    if form == "alpaca_eval":
        write_json(out, [_instruct_row(answer, model) for answer in answers])
        return
    row = _mt_bench_row if form == "mt_bench" else _plain_row
    write_json_lines(out, (row(answer, model) for answer in answers))


def _instruct_row(answer: Answer, model: str) -> dict[str, Any]:
    question = answer.question
    row: dict[str, Any] = {"instruction": question.turns[0]}
    row |= {"input": question.input} if question.input else {}
    row |= {"output": answer.turns[0], "generator": model}
    return row | ({"dataset": question.dataset} if question.dataset else {})


def _plain_row(answer: Answer, model: str) -> dict[str, Any]:
    """As AlpacaEval's with an id; several turns as messages."""
    question = answer.question
    if len(question.turns) == 1:
        return {"id": question.id, **_instruct_row(answer, model)}
    about: dict[str, Any] = {"input": question.input, "system": question.system}
    messages = conversation(question.turns, answer.turns, **about)
    return {"id": question.id, "messages": messages, "generator": model}


def _mt_bench_row(answer: Answer, model: str) -> dict[str, Any]:
    question = answer.question
    id = question.id if question.question_id is None else question.question_id
    named = json.dumps([question.id, model, *answer.turns])
    return {
        "question_id": id,
        "answer_id": hashlib.sha256(named.encode()).hexdigest()[:22],
        "model_id": model,
        "choices": [{"index": 0, "turns": list(answer.turns)}],
        "tstamp": time.time(),
    }
