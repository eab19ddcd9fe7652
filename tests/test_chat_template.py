"""Chat templates as tokenizers carry them: each in the form that works, or one sentence."""

from typing import Any

import pytest

from curate.pipeline import chat_template
from curate.pipeline.chat_template import SHIELD
from curate.pipeline.errors import CurateError
from curate.pipeline.templates import Template, student_template

from .scoring.tiny import byte_level

TURNS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
HEADER = "{% if add_generation_prompt %}[assistant]{% endif %}"
REFUSAL = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
PARTS = TURNS.replace("m['content']", "m['content'][0]['text']")


def template_of(source: Any) -> Template:
    return student_template("chat", byte_level(chat=source))


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        (TURNS + HEADER, "[system]Be.[user]Add.[assistant]"),
        (REFUSAL + TURNS + HEADER, "[user]Be.\n\nAdd.[assistant]"),
        (
            TURNS.replace("messages %", "messages if m['role'] != 'system' %") + HEADER,
            "[user]Be.\n\nAdd.[assistant]",
        ),
        (PARTS + HEADER, "[system]Be.[user]Add.[assistant]"),
        (TURNS, "[system]Be.[user]Add.[assistant]"),
    ],
    ids=["plain", "refuses system turns", "skips them", "lists of parts", "no generation prompt"],
)
def test_each_renders_everything(source: str, prompt: str) -> None:
    assert template_of(source).prompt("Add.", system="Be.") == prompt


@pytest.mark.parametrize(
    ("source", "before", "space"),
    [
        (TURNS + HEADER, "[user]Add.[assistant]", ""),
        (TURNS + HEADER.replace("t]", "t]: "), "[user]Add.[assistant]:", " "),
        (TURNS.replace("]{{", "] {{") + HEADER, "[user] Add.[assistant]", " "),
        (TURNS.replace("]{{", "]\n{{") + HEADER, "[user]\nAdd.[assistant]\n", ""),
        (TURNS.replace("]{{", "]<think>{{") + HEADER, "[user]<think>Add.[assistant]", ""),
    ],
    ids=[
        "nothing",
        "a space behind the prompt",
        "a space before",
        "a line break",
        "more than that",
    ],
)
def test_where_a_response_starts(source: str, before: str, space: str) -> None:
    template = template_of(source)
    assert template.before_response(template.prompt("Add.")) == before
    assert template.leading_space == space


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{% for %}",
        "{{ 1/0 }}",
        "{{ a.b.c }}",
        "constant",
        {"tool_use": TURNS, "rag": TURNS},
    ],
)
def test_one_sentence_for_what_renders_no_instruction(source: Any) -> None:
    with pytest.raises(CurateError) as raised:
        template_of(source)
    assert "chat template" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_template_that_goes_on_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "CHECK_SECONDS", 0.05)
    count = "{% for i in range(9999) %}{% for j in range(999) %}{% endfor %}{% endfor %}"
    with pytest.raises(CurateError, match="within"):
        template_of(count + TURNS)


def test_words_that_look_like_special_tokens_are_shielded() -> None:
    template = template_of("<s>" + TURNS + "</s>" + HEADER)
    prompt = template.prompt("Say </s>.")
    assert prompt.replace(SHIELD, "") == "<s>[user]Say </s>.</s>[assistant]"
    assert prompt.count("</s>") == 1


def test_several_templates_have_a_default() -> None:
    template = template_of({"default": TURNS + HEADER, "tool_use": "constant"})
    assert template.prompt("Add.") == "[user]Add.[assistant]"
