"""How replies end, and what is reasoning in them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.method.replies.endings import (
    answer_text,
    incomplete,
    opens_reasoning,
    split_reasoning,
)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("stop STOP eos_token end_turn stop_sequence tool_calls COMPLETE function_call", None),
        (
            "length max_tokens MAX_TOKENS model_length model_context_window_exceeded max_length "
            "max_output_tokens incomplete",
            "truncated",
        ),
        ("content_filter SAFETY refusal sensitive RECITATION PROHIBITED_CONTENT", "refused"),
        ("error network_error abort insufficient_system_resource ERROR cancelled", "failed"),
        ("OTHER pause_turn", "unparsed"),
    ],
)
def test_every_servers_words_for_an_end(words: str, status: str | None) -> None:
    for word in words.split():
        found = incomplete(word)
        assert (found and found[0]) == status, word
    assert incomplete(None) is incomplete("") is None


@pytest.mark.parametrize(
    ("text", "reasoning", "rest"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\ufeff \n<think>\na\n</think>\n\n b", "a", "b"),
        ("<THINK>a</Think >b", "a", "b"),
        ('<think signature="x y">a</think>b', "a", "b"),
        ("<thinking>a</thinking>b", "a", "b"),
        ("<reasoning>a</reasoning>b", "a", "b"),
        ("[THINK]a[/THINK]b", "a", "b"),
        ("◁think▷a◁/think▷b", "a", "b"),
        ("<think></think>b", "", "b"),
        ("<think>a</think>\n<think>b</think>c", "a\n\nb", "c"),
        ("<think>say <think> or not</think>b", "say <think> or not", "b"),
        ("<think>a", "a", ""),
        ("<think>a</think>", "a", ""),
        ("a <think>b</think>", None, "a <think>b</think>"),
        ("<thinker>a</thinker>", None, "<thinker>a</thinker>"),
        ("", None, ""),
    ],
)
def test_a_block_at_the_start_is_reasoning(text: str, reasoning: str | None, rest: str) -> None:
    assert split_reasoning(text) == (reasoning, rest)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "a", "\n", "<think x>"])).map("".join))
def test_what_is_split_is_split_for_good(text: str) -> None:
    rest = split_reasoning(text)[1]
    assert split_reasoning(rest) == (None, rest)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Hm.\n</think>\n\nYes.", "Yes."),
        ("Close it by </think> at once.", "Close it by </think> at once."),
        ("Write\n<think>\nHm.\n</think>\nYes.", "Write\n<think>\nHm.\n</think>\nYes."),
        ("Yes.<|im_end|>", "Yes."),
        ("Yes.</s>\n<|eot_id|>", "Yes."),
        ("The tag </s> strikes out.", "The tag </s> strikes out."),
    ],
)
def test_an_answer_is_what_is_left(text: str, answer: str) -> None:
    assert answer_text(text) == answer


def test_a_prompt_may_open_the_block() -> None:
    assert opens_reasoning("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert opens_reasoning("<assistant><think>\n")
    assert not opens_reasoning("<think>\n\n</think>\n\n") and not opens_reasoning("Write <think>x")
