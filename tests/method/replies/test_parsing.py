import gzip
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.pipeline.method.replies.marks import shield, unshield
from curate.pipeline.method.replies.parsing import (
    Parsed,
    parse_instruction_reply,
    parse_response_reply,
    same_text,
)
from curate.pipeline.method.replies.verdicts import pair_verdict, single_verdict
from curate.pipeline.method.replies.wording import strip_boilerplate

from .cases import CASES, Case

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
QUICK = settings(max_examples=100, deadline=None)


def parse(case: Case) -> Parsed:
    parser = parse_instruction_reply if case.kind == "instruction" else parse_response_reply
    return parser(case.reply, finish_reason=case.finish_reason, example_texts=case.example_texts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reply(case: Case) -> None:
    assert parse(case) == case.expected


def test_the_table_is_a_table() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_cut_reply_is_never_whole(case: Case) -> None:
    for parser in (parse_instruction_reply, parse_response_reply):
        parsed = parser(case.reply, finish_reason="length", example_texts=case.example_texts)
        assert (parsed.status, parsed.instruction, parsed.output) == ("truncated", None, None)


# Replies built at random: from pieces that mean something to the parser, and from any text.

PIECES = [
    "[New Instruction]", "[New Answer]", "[Better Answer]", "[End]", "[end]", "[/New Answer]",
    "New Instruction:", "**Better Answer:**", "### New Answer", "your answer", "N/A", "...",
    "<think>", "</think>", "```", "```python", "**", ">", "- ", "4. ", "5.", "\n", "\n\n", " ",
    "\u2060", "[", "]", "[\u2060End]", "Here is a new and complete answer:", "I'm sorry, but",
    "I can't help with that.", "Pine is green", ".", ":", "a[end]", "\r\n", "\ufeff",
]  # fmt: skip
replies = st.one_of(
    st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=25).map("".join)
)
MARKER = re.compile(r"\[\s*/?\s*(?:new instruction|new answer|better answer|end)\s*\]", re.I)

INDEX = re.compile(r"(?<=[\w\]])\[end\]")  # as in code: a[end]


@QUICK
@given(replies, replies)
def test_any_text_gives_texts_or_a_reason(reply: str, example: str) -> None:
    for parser in (parse_instruction_reply, parse_response_reply):
        parsed = parser(reply, finish_reason="stop", example_texts=(example,))
        if parsed.status == "ok":
            assert parsed.output and parsed.reason is None
            assert bool(parsed.instruction) == (parser is parse_instruction_reply)
        else:
            assert parsed.status in ("unparsed", "refused") and parsed.reason
            assert parsed.instruction is None and parsed.output is None


@QUICK
@given(replies)
def test_no_marker_is_left_in_a_part(reply: str) -> None:
    assume("\u2060" not in reply)  # a shielded marker comes back as the text that it is
    for parser in (parse_instruction_reply, parse_response_reply):
        parsed = parser(reply, finish_reason="stop", example_texts=())
        for part in (parsed.instruction, parsed.output):
            assert not MARKER.search(INDEX.sub("", part or "")), part


@pytest.mark.parametrize(
    "unit", [*PIECES, "[New Answer]\n", "thanks, ", "new ", "1.", "#", "'", "_"]
)
def test_a_reply_that_repeats_itself_is_read_in_time(unit: str) -> None:
    reply = unit * (8000 // len(unit))  # quadratic in the worst case: well under a second
    for text in (reply, "[New Instruction] x [End]\n[New Answer] " + reply + "x"):
        parse_instruction_reply(text, finish_reason=None, example_texts=("[End]",))
        strip_boilerplate(text)


@settings(max_examples=20, deadline=None)
@given(
    st.one_of(
        st.text(min_size=1, max_size=8),
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join),
    ),
    st.sampled_from(["", "[", "[Better Answer]\n", "[new answer", "4. **Better Answer:** "]),
    st.sampled_from(["", "x", "x [End]"]),
)
def test_100_kb_of_anything_are_read_in_linear_time(unit: str, before: str, after: str) -> None:
    """What is quadratic takes minutes; all of this takes about half a second."""
    text = before + unit * (100_000 // len(unit)) + after
    begun = time.process_time()
    parse_instruction_reply(text, finish_reason=None, example_texts=("[End]",))
    parse_response_reply(text, finish_reason=None, example_texts=())
    parse_response_reply("[Better Answer] x [End]", finish_reason=None, example_texts=(text,))
    strip_boilerplate(unshield(shield(text)))
    pair_verdict(text)
    single_verdict(text)
    assert time.process_time() - begun < 10


def test_a_drawn_tree_is_read_in_linear_time() -> None:
    tree = "\n".join(" " * (40 - row) + "*" * (2 * row - 1) for row in range(1, 41))
    reply = f"C.\n[Better Answer]\n{tree}\nThat is the tree. [End]"
    parsed = parse_response_reply(reply, finish_reason="stop", example_texts=())
    assert parsed.output == f"{tree}\nThat is the tree."


words = st.sampled_from(
    ["pine", "holly", "leaf", "Green", "Tree", "42", "(wax)", "3.5", "it's", "'so'", "née", "木"]
)
sentences = st.builds(
    lambda many, stop: " ".join(["Trees", *many]) + stop,
    st.lists(words, max_size=8),
    st.sampled_from(".?!"),
)
lists = st.lists(sentences, min_size=1, max_size=4).map(
    lambda items: "\n".join(f"{n}. {item}" for n, item in enumerate(items, 1))
)
blocks = st.sampled_from(
    [
        "- Pine\n- Holly\n- Ivy",
        "# Trees\n\nPine.",
        "**Pine** is green, and *holly* too.",
        "```python\ntree = leaves[-1]\n\nprint(tree)\n```",
        "| Tree | Leaf |\n|------|------|\n| Pine | wax  |",
        "Dear Ann,\n\nThank you.\nBo",
        "3 * 4 = 12 and 2**3 = 8",
    ]
)
texts = st.lists(st.one_of(sentences, lists, blocks), min_size=1, max_size=4).map("\n\n".join)

OPENERS = [
    "[{}]", "[{}]:", "**[{}]**", "**[{}]**:", "**[{}]:**", "*[{}]*", "> [{}]", "- [{}]", "4. [{}]",
    "5) **[{}]**", "**4. [{}]**", "### [{}]", "[ {} ]", "`[{}]`", "[{}]\n[{}]", "{}:", "**{}:**",
    "**{}**:", "### {}:", "4. {}:", "5) **{}:**", "The {}:",
]  # fmt: skip
ENDS = [
    "[End]",
    "[end]",
    "[END]",
    "[/End]",
    "**[End]**",
    "[ End ]",
    "[End of Answer]",
    "[End]\n[End]",
]


@st.composite
def rendered(draw: st.DrawFn, name: str, text: str, *, last: bool) -> str:
    name = draw(st.sampled_from([name, name.upper(), name.lower()]))
    opener = draw(st.sampled_from(OPENERS)).replace("{}", name)
    gap = draw(st.sampled_from([" ", "\n", "\n\n"]))
    fence = (
        draw(st.sampled_from(["{}", "{}", "```\n{}\n```", "```markdown\n{}\n```"]))
        if "\n" in gap
        else "{}"
    )
    end = draw(st.sampled_from(["\n", " "])) + draw(st.sampled_from([*ENDS, ""]))
    after = draw(st.sampled_from(["", "\n\nI hope this helps."])) if last and end.strip() else ""
    return opener + gap + fence.replace("{}", text) + end + after


@QUICK
@given(st.data(), texts, texts, st.booleans(), sentences)
def test_parts_come_back_exactly(
    data: st.DataObject, instruction: str, output: str, swapped: bool, critique: str
) -> None:
    parts = [("New Instruction", instruction), ("New Answer", output)]
    if swapped:
        parts.reverse()
    first = data.draw(rendered(*parts[0], last=False))
    second = data.draw(rendered(*parts[1], last=True))
    reply = f"{critique}\n\n{first}\n{second}"
    parsed = parse_instruction_reply(reply, finish_reason="stop", example_texts=())
    assert parsed == Parsed(status="ok", instruction=instruction, output=output), reply


@QUICK
@given(st.data(), texts, sentences)
def test_a_better_answer_comes_back_exactly(
    data: st.DataObject, output: str, critique: str
) -> None:
    reply = critique + "\n" + data.draw(rendered("Better Answer", output, last=True))
    parsed = parse_response_reply(reply, finish_reason="stop", example_texts=())
    assert parsed == Parsed(status="ok", output=output), reply


@QUICK
@given(replies)
def test_shield_round_trip(text: str) -> None:
    assume("[\u2060" not in text)
    assert unshield(shield(text)) == text


@QUICK
@given(
    texts,
    st.sampled_from(["[New Answer]", "[ end ]", "[Better Answer]", "[NEW INSTRUCTION]", "[/End]"]),
)
def test_a_shielded_record_quoted_whole_does_not_disturb(text: str, marker: str) -> None:
    own = f"{text} {marker} {text}\n{marker}\n{text}"
    assert marker not in shield(own)
    reply = f"The record says: {shield(own)}\n[Better Answer]\n{shield(own)}\n[End]"
    parsed = parse_response_reply(reply, finish_reason="stop", example_texts=(own,))
    assert parsed.output == own


def test_shield_leaves_an_index_alone() -> None:
    assert shield("x = a[end]; [link](url) [Ending]") == "x = a[end]; [link](url) [Ending]"


def test_same_text() -> None:
    assert same_text(" a\r\nb\n", "a\nb")
    assert not same_text("a b", "a  b")


def test_strip_boilerplate_leaves_nothing_of_an_opening() -> None:
    assert strip_boilerplate("Here is a new and complete answer:") == ("", True)
    assert strip_boilerplate("") == ("", False)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared (real data) is absent")
def test_boilerplate_of_real_students() -> None:
    """METHOD.md: at least 19 of 805 of a student whose training data had it; none elsewhere."""
    found = {}
    for name in ("recycled-wizardlm-7b-v1.0", "alpaca-7b", "text_davinci_003"):
        with gzip.open(SHARED / "data" / "alpaca_eval" / f"{name}_outputs.json.gz", "rt") as file:
            outputs = [row["output"] for row in json.load(file)]
        assert len(outputs) == 805
        found[name] = sum(strip_boilerplate(output)[1] for output in outputs)
    assert found.pop("recycled-wizardlm-7b-v1.0") >= 19
    assert found == {"alpaca-7b": 0, "text_davinci_003": 0}
