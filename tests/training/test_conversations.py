"""Rows of conversations: the history is in front, and its answers are trained on if asked for."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from curate.pipeline.records import Example
from curate.pipeline.training.chat_template import answer_end
from curate.pipeline.training.rows import IGNORED, RowFormat, TrainingRow, as_example, training_data

from .byte_student import template_of, tokens_of

CONVERSATION = Example(
    id="c",
    instruction="And one that swims?",
    output="A penguin.",
    system="Be brief.",
    history=(
        {"role": "user", "content": "Name a bird."},
        {"role": "assistant", "content": "A robin."},
    ),
)


def row_of(student: Path, name: str, loss_on: str) -> TrainingRow:
    template, tokens = template_of(name, student), tokens_of(student, name)
    form = RowFormat(
        template=template,
        tokens=tokens,
        end=answer_end(template, tokens),
        max_length=256,
        loss_on=loss_on,  # type: ignore[arg-type]
    )
    data = training_data([CONVERSATION], form)
    assert data.unlike == 0
    [row] = data.rows
    return row


def trained(student: Path, row: TrainingRow) -> str:
    ids = [t for t, label in zip(row.input_ids, row.labels, strict=True) if label != IGNORED]
    return str(AutoTokenizer.from_pretrained(student).decode(ids))


@pytest.mark.parametrize("name", ["vicuna", "alpaca", "wizardlm", "chat"])
def test_the_last_answer_or_all_of_them(name: str, byte_student: Path) -> None:
    last, every = (row_of(byte_student, name, loss_on) for loss_on in ("last", "all"))
    space = " " if name == "vicuna" else ""
    assert last.input_ids == every.input_ids
    assert trained(byte_student, last) == f"{space}A penguin.</s>"
    assert trained(byte_student, every) == f"{space}A robin.</s>{space}A penguin.</s>"
    whole = AutoTokenizer.from_pretrained(byte_student).decode(every.input_ids)
    said = ["Be brief.", "Name a bird.", "A robin.", "And one that swims?", "A penguin."]
    places = [whole.index(text) for text in said]
    assert places == sorted(places)


def test_a_selected_rows_messages_are_its_history() -> None:
    system = {"role": "system", "content": "Be brief."}
    asked = {"role": "user", "content": "And one that swims?"}
    answer = {"role": "assistant", "content": "A penguin."}
    row = {
        "id": "c",
        "instruction": "And one that swims?",
        "input": "",
        "output": "A penguin.",
        "messages": [system, *CONVERSATION.history, asked, answer],
    }
    assert as_example(row) == CONVERSATION
