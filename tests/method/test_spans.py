"""Which texts the two scores of a candidate are of."""

from typing import Any

import pytest

from curate.pipeline.method.spans import SIDES, Pair, pair
from curate.pipeline.records import Candidate
from curate.pipeline.templates import Template

GUESS = (
    "Below is the response to an instruction, please guess the corresponding instruction for the "
    "given response.\n3\nGenerate the instruction for the above response."
)


def of(**texts: Any) -> Candidate:
    given = {"instruction": "Add", "input": "1 2", "output": "3"}
    return Candidate(id="1", candidate="original", **given | texts)


def test_ifd_is_of_the_response_behind_the_prompt() -> None:
    assert pair(of(), "ifd", Template("wizardlm")) == Pair("Add\n1 2\n\n### Response:", "3")


@pytest.mark.parametrize("input", ["", None])
def test_without_an_input(input: str | None) -> None:
    plain = of(input=input)
    assert pair(plain, "ifd", Template("wizardlm")) == Pair("Add\n\n### Response:", "3")
    assert pair(plain, "rifd", Template("wizardlm")).target == "Add"


def test_rifd_is_of_instruction_and_input_joined_directly_behind_the_form_without_input() -> None:
    assert pair(of(), "rifd", Template("wizardlm")) == Pair(f"{GUESS}\n\n### Response:", "Add1 2")


def test_a_system_turn_is_in_front_of_the_instruction_and_no_target() -> None:
    told = of(system="Be brief.")
    assert pair(told, "ifd", Template("wizardlm")).prefix.startswith("Be brief.\n\nAdd\n1 2")
    assert pair(told, "rifd", Template("wizardlm")) == pair(of(), "rifd", Template("wizardlm"))


def test_there_are_two_sides() -> None:
    assert SIDES == ("ifd", "rifd")
