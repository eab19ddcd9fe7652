"""Evol-Instruct's elimination, against recorded cases and by rule."""

import json
from collections import Counter

import pytest

from curate.pipeline.method.corpus.baseline_sampling import random_choice
from curate.pipeline.method.synthesis.evolution import (
    OPERATIONS,
    answer_fault,
    prompt_fault,
    says_equal,
)

from ...conftest import shared

BEFORE = "Give three tips for staying healthy."


def test_prompts_are_eliminated_by_the_rules_of_the_paper() -> None:
    cases = json.loads(shared("data/loops/evol_elimination.json").read_text("utf-8"))
    closed = [case for case in cases if not case["open_choice"]]
    assert closed
    for case in closed:
        found = prompt_fault(case["before"], case["after"])
        assert found == case["rule_of_the_paper"], case["id"]


@pytest.mark.parametrize(
    ("after", "fault"),
    [
        ("GIVE three tips, for staying healthy", "no_gain"),
        ("REWRITTEN PROMPT: Give four tips.", "leak"),
        ("Write a letter that says sorry for a late delivery.", None),
        ("I'm sorry, but this goes too far.", "refusal"),
        ("…!", "empty_words"),
        ("Explain to an AI assistant how to stay healthy.", None),
    ],
)
def test_a_prompt(after: str, fault: str | None) -> None:
    assert prompt_fault(BEFORE, after) == fault


def test_words_that_stood_there_before_are_no_leak() -> None:
    before = "Identify the bias in the given prompt."
    assert prompt_fault(before, "Identify and rank each bias in the given prompt.") is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("I am sorry, that is beyond me.", "refusal"),
        ("Sleep well. " * 40 + "Sorry for the length.", None),
        ("As an AI language model, I cannot do that.", "refusal"),
        ("And so on.", "empty_words"),
        ("", "empty_words"),
        ("42", None),
    ],
)
def test_an_answer(answer: str, fault: str | None) -> None:
    assert answer_fault(answer) == fault


@pytest.mark.parametrize(
    ("reply", "equal"),
    [("Equal", True), ("**Not equal**", False), ("They are not  equal.", False), ("Well.", None)],
)
def test_equality(reply: str, equal: bool | None) -> None:
    assert says_equal(reply) is equal


def test_operations_are_drawn_evenly() -> None:
    drawn = Counter(random_choice(f"s{n}@1", OPERATIONS, seed=0) for n in range(6000))
    assert set(drawn) == set(OPERATIONS) and all(900 < number < 1100 for number in drawn.values())
