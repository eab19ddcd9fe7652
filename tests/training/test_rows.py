"""Records -> rows: what is trained on, what is cut, left out or held out."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from curate.pipeline.records import Example
from curate.pipeline.training.rows import IGNORED

from .byte_student import BELOW, RECORDS, REQUEST, VICUNA, data_of

# T(x) of ("Add.", "2 and 3") and of "Add." alone, up to the response's first token.
FORMATS = {
    "vicuna": (f"<s>{VICUNA}Add.\nInput:\n2 and 3 ASSISTANT:", f"<s>{VICUNA}Add. ASSISTANT:"),
    "alpaca": (
        f"<s>{BELOW}, paired with an input that provides further context. {REQUEST}Add."
        "\n\n### Input:\n2 and 3\n\n### Response:\n",
        f"<s>{BELOW}. {REQUEST}Add.\n\n### Response:\n",
    ),
    "wizardlm": ("<s>Add.\n2 and 3\n\n### Response:\n", "<s>Add.\n\n### Response:\n"),
    "chat": (
        "<s>user\nAdd.\n2 and 3</s><s>assistant\n",
        "<s>user\nAdd.</s><s>assistant\n",
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_exactly_the_response_and_its_end_are_trained_on(name: str, byte_student: Path) -> None:
    records = [
        {"id": "a", "instruction": "Add.", "input": "2 and 3", "output": "It is 5."},
        {"id": "b", "instruction": "Add.", "input": None, "output": " 5\n"},
    ]
    data = data_of(byte_student, records, name)
    tokenizer = AutoTokenizer.from_pretrained(byte_student)
    for row, prompt, answer in zip(data.rows, FORMATS[name], ("It is 5.", " 5\n"), strict=True):
        trained = [label for label in row.labels if label != IGNORED]
        ignored = [
            t for t, label in zip(row.input_ids, row.labels, strict=True) if label == IGNORED
        ]
        space = " " if name == "vicuna" else ""
        assert tokenizer.decode(trained) == space + answer + "</s>"
        assert tokenizer.decode(ignored) == prompt
        assert row.labels[-len(trained) :] == trained == row.input_ids[-len(trained) :]


def test_the_system_turn_of_a_selected_row_is_in_the_prompt(byte_student: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add."}]
    row = {"id": "a", "instruction": "Add.", "output": "5", "messages": messages}
    for name, opening in (
        ("wizardlm", "<s>Be brief.\n\nAdd."),
        ("chat", "<s>system\nBe brief.</s>"),
    ):
        data = data_of(byte_student, [row], name)
        text = AutoTokenizer.from_pretrained(byte_student).decode(data.rows[0].input_ids)
        assert text.startswith(opening)


@pytest.mark.parametrize("overlong", ["cut", "drop"])
def test_long_rows_are_cut_or_dropped_and_counted(overlong: Any, byte_student: Path) -> None:
    records = [
        Example(id="short", instruction="Hi.", output="Ho."),
        Example(id="long", instruction="Hi.", output="Ho. " * 100),
        Example(id="prompt", instruction="Hi. " * 100, output="Ho."),
        Example(id="none", instruction="Hi.", output=""),
    ]
    data = data_of(byte_student, records, max_length=40, overlong=overlong)
    assert [row.id for row in data.rows] == (["short", "long"] if overlong == "cut" else ["short"])
    assert data.cut == (1 if overlong == "cut" else 0)
    assert data.dropped == {"overlong": 1 if overlong == "cut" else 2, "empty": 1}
    assert all(len(row.input_ids) <= 40 for row in data.rows)
    ends = {row.id: row.input_ids[-1] == 1 for row in data.rows}
    assert ends == ({"short": True, "long": False} if overlong == "cut" else {"short": True})


def test_the_held_out_rows_do_not_depend_on_order(byte_student: Path) -> None:
    def kept_out(records: list[Example], seed: int) -> set[str]:
        data = data_of(byte_student, records, held_out=0.25, seed=seed)
        assert len(data.rows) == 18
        return {row.id for row in data.held_out}

    assert kept_out(RECORDS, 0) == kept_out(RECORDS[::-1], 0) != kept_out(RECORDS, 1)
