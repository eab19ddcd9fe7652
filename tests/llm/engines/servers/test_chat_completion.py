"""What servers send for a chat completion, in all the shapes that they have for it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.llm.engines.servers.chat_completion import read_completion
from curate.pipeline.llm.flow_control import Trouble
from curate.pipeline.llm.protocol import Reply


def body(content: Any = "Yes.", *, finish: Any = "stop", usage: Any = None, **more: Any) -> Any:
    """`more` goes into the choice, or into its message where that has such a field."""
    names = ("reasoning_content", "reasoning", "refusal", "tool_calls")
    message = {"content": content} | {name: more.pop(name) for name in names if name in more}
    return {"choices": [{"message": message, "finish_reason": finish, **more}], "usage": usage}


def read(data: Any) -> Reply:
    return read_completion(data, max_tokens=10)


@pytest.mark.parametrize(
    ("data", "text", "reasoning"),
    [
        (body(), "Yes.", None),
        (body(reasoning_content="Hm."), "Yes.", "Hm."),
        (body(reasoning="Hm."), "Yes.", "Hm."),
        (body(reasoning="Hm.", reasoning_content="Hm."), "Yes.", "Hm."),
        (body(reasoning_content=None), "Yes.", None),
        (body(reasoning_content=""), "Yes.", None),
        (body(None, reasoning_content="[Better Answer] no [End]"), "", "[Better Answer] no [End]"),
        (body([{"type": "text", "text": "Y"}, {"text": "es."}]), "Yes.", None),
        (body([{"type": "text", "text": None}, {"text": 3}, 4]), "", None),
        (body([{"type": "reasoning", "text": "Hm."}, {"text": "Yes."}]), "Yes.", "Hm."),
        (
            body([{"type": "thinking", "thinking": [{"text": "Hm."}]}, {"text": "Yes."}]),
            "Yes.",
            "Hm.",
        ),
        (body([{"type": "thinking", "thinking": "Hm."}, {"text": "Yes."}]), "Yes.", "Hm."),
        (body(None, refusal="No."), "No.", None),
        (body(None, tool_calls=[{"id": "x"}]), "", None),
        (body({"text": "?"}), "", None),
    ],
)
def test_text_and_reasoning(data: Any, text: str, reasoning: str | None) -> None:
    found = read(data)
    assert (found.text, found.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("data", "finish"),
    [
        (body(), "stop"),
        (body(finish=None), None),
        (body(finish=["stop"]), None),
        (body(finish="MAX_TOKENS"), "MAX_TOKENS"),
        (body(native_finish_reason="MAX_TOKENS"), "MAX_TOKENS"),
        (body(native_finish_reason="end_turn"), "stop"),
        (body(usage={"completion_tokens": 10}), "length"),
        (body(finish=None, usage={"completion_tokens": 10}), "length"),
        (body(finish="tool_calls", usage={"completion_tokens": 10}), "length"),
        (body(finish="content_filter", usage={"completion_tokens": 10}), "content_filter"),
        (body(usage={"completion_tokens": 9}), "stop"),
    ],
)
def test_how_it_ended(data: Any, finish: str | None) -> None:
    assert read(data).finish_reason == finish


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2)),
        ({"prompt_tokens": 3.0, "completion_tokens": 2.5}, (3, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None)),
        ({"prompt_tokens": "3", "completion_tokens": None}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": -1}, (None, None)),
        ({"prompt_tokens": 10**308, "completion_tokens": 10**400}, (None, None)),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, (None, None)),
        (None, (None, None)),
        ([], (None, None)),
    ],
)
def test_only_what_can_be_a_count_is_one(usage: Any, counts: tuple[int | None, int | None]) -> None:
    found = read(body(usage=usage))
    assert (found.prompt_tokens, found.completion_tokens) == counts
    silent = read(body("", usage={"prompt_tokens": 3, "completion_tokens": 0}))
    assert (silent.prompt_tokens, silent.completion_tokens) == (3, 0)  # of no text: a count


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)  # fmt: skip


@settings(deadline=None)
@given(ANY, ANY, ANY, ANY, ANY)
def test_any_value_in_any_place_is_read_or_asked_for_again(
    content: Any, finish: Any, tokens: Any, reasoning: Any, part: Any
) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
    parts = [{"type": reasoning, "text": part}, {"type": "thinking", "thinking": [part]}, part]
    for data in (
        body(content, finish=finish, usage=usage, reasoning=reasoning),
        body(parts, finish=finish, usage=tokens, native_finish_reason=part),
        {"choices": content, "usage": usage},
        {"choices": [{"message": content, "error": part}]},
    ):
        try:
            found = read(data)
        except Trouble:
            continue
        assert isinstance(found.text, str) and isinstance(found.finish_reason, str | None)
        for count in (found.prompt_tokens, found.completion_tokens):
            assert count is None or 0 <= count <= 10**9


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (body(error={"code": 502, "message": "upstream lost"}), "upstream lost"),
        (body(error="upstream lost"), "upstream lost"),
        (body(finish="error"), "error"),
        (body(finish="network_error"), "network_error"),
        (body(finish="insufficient_system_resource"), "insufficient_system_resource"),
        ({"choices": []}, "without a message"),
        ({"choices": {"0": {}}}, "without a message"),
        ({"choices": [{"text": "Yes."}]}, "without a message"),
    ],
)
def test_what_broke_off_is_to_be_asked_for_again(data: Any, says: str) -> None:
    with pytest.raises(Trouble, match=says):
        read(data)
