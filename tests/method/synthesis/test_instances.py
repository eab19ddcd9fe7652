"""Self-Instruct's instances: what is read of a reply and what is left out."""

import pytest

from curate.pipeline.method.synthesis.instances import is_yes, read_instances


def read(reply: str, *, classification: bool = False, cut: bool = False) -> list[tuple[str, ...]]:
    found = read_instances(reply, classification=classification, cut=cut)
    return [(one.input, one.output, one.fault or "") for one in found]


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (
            "Example 1\nInput: a\nOutput: b\nExample 2\nInput: c\nOutput: d",
            [("a", "b", ""), ("c", "d", "")],
        ),
        ("Output: just this", [("", "just this", "")]),
        ("Example 1\nWords: a\nOutput: b", [("Words: a", "b", "")]),
        ("Nothing of the kind", []),
        ("Example 1\nInput: a\nOutput: b\nInput: c", [("a", "b", "")]),
        ("Example 1\nInput: a\nOutput: a", [("a", "a", "output_is_input")]),
        ("Example 1\nInput: a\nOutput:", [("a", "", "no_output")]),
        ("Example 1\nInput: a\nOutput: these:", [("a", "these:", "ends_in_colon")]),
        (
            "Example 1\nInput: a\nOutput: b\nExample 2\nInput: a\nOutput: c",
            [("a", "b", "contradiction"), ("a", "c", "contradiction")],
        ),
        ("Example 1\nOutput: b\nExample 2\nOutput: c", [("", "b", ""), ("", "c", "")]),
        (
            "Example 1\nInput: a\nOutput: b\nExample 2\nInput: a\nOutput: b",
            [("a", "b", ""), ("a", "b", "repeated")],
        ),
    ],
    ids=["two", "output-alone", "named-input", "none", "made-up-next", "equal", "empty", "colon",
         "contradiction", "no-input", "repeated"],
)  # fmt: skip
def test_input_first(reply: str, found: list[tuple[str, ...]]) -> None:
    assert read(reply) == found


def test_output_first() -> None:
    reply = "Class label: good\nText: Fine.\nClass label: bad\nText: Poor."
    assert read(reply, classification=True) == [
        ("Text: Fine.", "good", ""),
        ("Text: Poor.", "bad", ""),
    ]
    assert read("No labels here.", classification=True) == []


def test_the_last_one_of_a_cut_reply_is_not_whole() -> None:
    reply = "Example 1\nInput: a\nOutput: b\nExample 2\nInput: c\nOutput: d"
    assert read(reply, cut=True) == [("a", "b", ""), ("c", "d", "truncated")]


def test_five_are_enough() -> None:
    reply = "\n".join(f"Example {n}\nInput: {n}\nOutput: o{n}" for n in range(7))
    assert [fault for *_, fault in read(reply)] == [""] * 5 + ["above_five"] * 2


@pytest.mark.parametrize(
    ("reply", "yes"), [("Yes", True), ("**yes**.", True), ("No", False), ("Yesterday", False)]
)
def test_a_classification_is_one_that_is_called_so(reply: str, yes: bool) -> None:
    assert is_yes(reply) is yes
