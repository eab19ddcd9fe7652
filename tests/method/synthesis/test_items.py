"""Self-Instruct's items and filters, against recorded readings of the released code."""

import json

import pytest

from curate.pipeline.method.synthesis.items import draw_shots, item_fault, numbered, read_items

from ...conftest import shared


def kept(reply: str, *, english: bool = True) -> list[str]:
    return [text for text in read_items(reply) if item_fault(text, english=english) is None]


def test_replies_are_read_as_the_released_code_does_but_for_case() -> None:
    cases = json.loads(shared("data/loops/self_instruct_replies.json").read_text("utf-8"))
    whole = [case for case in cases if case["finish_reason"] == "stop"]
    assert whole
    for case in whole:
        found = [text.casefold() for text in kept(case["reply"])]
        assert found == [text.casefold() for text in case["instructions"]], case["id"]


def test_proper_names_keep_their_case() -> None:
    assert kept(" Write to NATO in Asia.\n10. name the capital of Peru") == [
        "Write to NATO in Asia.", "Name the capital of Peru",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault", "other"),
    [
        ("Write a poem.", "too_short", "too_short"),
        ("Say it now again.", None, None),
        ("word " * 151, "too_long", "too_long"),
        ("Describe the IMAGES in words.", "keyword", None),
        ("Tell how imagery helps a poem.", None, None),
        ("Tell me when to go to bed.", "keyword", None),
        ("Write a program that adds numbers.", "program", None),
        ("(Explain the rule of three.)", "first_character", "first_character"),
        ("Écris une lettre à un ami.", "first_character", None),
        ("写一首关于大海的诗", "too_short", None),
    ],
)
def test_filters_of_a_language_are_for_english_alone(
    text: str, fault: str | None, other: str | None
) -> None:
    assert (item_fault(text, english=True), item_fault(text, english=False)) == (fault, other)


def test_shots_depend_on_seed_request_and_pool_alone() -> None:
    seeds, machine = [f"s{n}" for n in range(20)], [f"m{n}" for n in range(9)]
    drawn = draw_shots(seeds, machine, seed=1, request="r2-q0")
    assert drawn == draw_shots(seeds, machine, seed=1, request="r2-q0")
    assert len(set(drawn)) == 8 and sum(one.startswith("m") for one in drawn) == 2
    assert drawn != draw_shots(seeds, machine, seed=1, request="r2-q1")
    assert (
        sum(one.startswith("m") for one in draw_shots(seeds, machine[:1], seed=1, request="")) == 1
    )


def test_shots_are_one_line_each() -> None:
    assert numbered(["Name\n three rivers:", "Say hi."]) == "1. Name three rivers\n2. Say hi."
