"""Texts -> spans: exact against what METHOD.md says, reference against the released way."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GPT2Tokenizer

from curate.pipeline.errors import CurateError
from curate.pipeline.method.spans import Pair
from curate.pipeline.scoring.forward.packing import Span
from curate.pipeline.scoring.tokens import SpanPair, Tokenization
from curate.pipeline.templates import Template, student_template

from ..conftest import shared
from .tiny import byte_level

TOKENIZERS = {
    "bos": byte_level(),
    "no bos": byte_level(bos=None),
    "eos behind": byte_level(ends=True),
    "eos behind, no bos": byte_level(bos=None, ends=True),
    "no eos": byte_level(eos=None),
}
BOS, EOS = 0, 1
texts = st.text(max_size=40) | st.sampled_from(["", "a", " a", "the list", "\n", "\0", "é", "</s>"])


def exact(tokenizer: Any, template: str = "vicuna", *, length: int = 64) -> Tokenization:
    given = student_template(template, tokenizer)
    return Tokenization(tokenizer, given, name="exact", max_length=length)


def reference(tokenizer: Any, template: str = "vicuna", *, length: int = 64) -> Tokenization:
    given = student_template(template, tokenizer)
    return Tokenization(tokenizer, given, name="reference", max_length=length)


def pair_of(tokens: Tokenization, prefix: str, target: str) -> SpanPair:
    return tokens.span_pairs([Pair(prefix, target)])[0]


def bare(tokenizer: Any, text: str) -> list[int]:
    """The tokens of plain text."""
    how = {"add_special_tokens": False, "split_special_tokens": True}
    ids: list[int] = tokenizer(text, **how)["input_ids"]
    return ids


def parts(span: Span | None) -> tuple[list[int], list[int]]:
    """A span's prefix and its scored tokens."""
    assert span is not None
    return span.ids[: span.start].tolist(), span.ids[span.start :].tolist()


# --- exact ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["vicuna", "alpaca"])
@pytest.mark.parametrize("name", TOKENIZERS)
@given(prefix=texts, target=texts, length=st.integers(2, 80))
@settings(max_examples=40, deadline=None)
def test_exact_is_what_the_method_says(
    name: str, template: str, prefix: str, target: str, length: int
) -> None:
    """A line break belongs to the prefix, a space to the target; both passes score the same."""
    tokenizer = TOKENIZERS[name]
    opening = [BOS] if tokenizer.bos_token else []
    anchor = [BOS] if tokenizer.bos_token else [EOS]
    behind, before = {"vicuna": ("", " "), "alpaca": ("\n", "")}[template]
    head = opening + bare(tokenizer, prefix + behind) or anchor
    whole = bare(tokenizer, before + target) if target else []
    cut = whole[: max(length - len(head), 0)]
    tokens = exact(tokenizer, template, length=length)
    found = pair_of(tokens, prefix, target)
    assert (tokens.prefix_ids(prefix) or anchor, tokens.target_ids(target)) == (head, whole)
    assert found.num_tokens == len(cut)
    if not cut:
        assert (found.conditional, found.unconditional) == (None, None)
        assert found.status == ("overlong" if whole else "empty")
        return
    assert found.status == ("ok" if cut == whole else "truncated")
    assert parts(found.conditional) == (head, cut)
    assert parts(found.unconditional) == (anchor, cut)
    assert found.conditional and len(found.conditional.ids) <= length


def test_both_passes_score_the_same_ids_where_one_string_would_merge() -> None:
    tokenizer = TOKENIZERS["bos"]
    joined = bare(tokenizer, "instruction")
    apart = bare(tokenizer, "instr") + bare(tokenizer, "uction")
    assert joined != apart
    found = pair_of(exact(tokenizer, "alpaca"), "instr", "uction")
    assert parts(found.conditional)[1] == parts(found.unconditional)[1] == bare(tokenizer, "uction")


def test_a_tokenizer_that_puts_a_space_in_front_gets_no_second_one() -> None:
    """As SentencePiece does: "the" at a text's beginning is the same token as behind a space."""
    tokenizer = byte_level(space=True)
    assert bare(tokenizer, "the") == bare(tokenizer, "a the")[1:]
    assert exact(tokenizer).target_ids("the list") == bare(tokenizer, "the list")
    assert TOKENIZERS["bos"].tokenize(" the") == tokenizer.tokenize("the")


def test_a_bos_that_the_tokenizer_does_not_put_in_front_opens_every_sequence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = byte_level(in_front=False)
    found = pair_of(exact(tokenizer), "Add.", "2")
    assert parts(found.conditional)[0] == [BOS, *bare(tokenizer, "Add.")]
    assert "BOS" in caplog.text
    released = pair_of(reference(tokenizer), "Add.", "22")
    assert parts(released.conditional)[0] == bare(tokenizer, "Add.")


def test_an_end_of_text_token_is_no_bos() -> None:
    tokenizer = byte_level(bos="</s>", in_front=False)
    assert exact(tokenizer).opening == []


def test_words_that_look_like_special_tokens_are_text() -> None:
    tokenizer = TOKENIZERS["bos"]
    tokens = exact(tokenizer, "alpaca")
    assert EOS not in tokens.target_ids("The mark </s> ends it.")
    assert EOS not in tokens.prefix_ids("What does </s> end?")
    released = reference(tokenizer).span_pairs([Pair("What ends it?", "The mark </s>.")])[0]
    assert EOS in parts(released.conditional)[1]


def test_without_bos_and_eos_there_is_no_anchor() -> None:
    neither = byte_level(bos=None, eos=None)
    with pytest.raises(CurateError, match="neither a BOS nor an EOS"):
        exact(neither)
    reference(neither)


def test_a_chat_template_brings_its_own_bos() -> None:
    tokenizer = TOKENIZERS["bos"]
    template = student_template("chat", tokenizer)
    prompt = template.prompt("Add.", "1")
    found = pair_of(exact(tokenizer, "chat"), prompt, "2")
    head, scored = parts(found.conditional)
    assert head.count(BOS) == 1
    assert head == [BOS, *bare(tokenizer, "[user]Add.\n1[assistant]")]
    assert scored == bare(tokenizer, "2")
    assert parts(found.unconditional)[0] == [BOS]


def test_a_student_without_a_chat_template() -> None:
    with pytest.raises(CurateError, match="has no chat template"):
        student_template("chat", byte_level(chat=None))


def test_a_chat_template_that_refuses_system_turns_gets_it_in_front_of_the_instruction() -> None:
    refuses = (
        "{% for m in messages %}"
        "{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
    )
    template = student_template("chat", byte_level(chat=refuses))
    assert template.prompt("Add.", system="Be.") == "[user]Be.\n\nAdd.[assistant]"


@pytest.mark.parametrize("name", ["bos", "eos behind"])
@pytest.mark.parametrize("template", ["vicuna", "alpaca", "wizardlm", "chat"])
def test_every_prompt_opens_with_the_header_of_its_form(name: str, template: Any) -> None:
    tokenizer = TOKENIZERS[name]
    wire = student_template(template, tokenizer)
    tokens = exact(tokenizer, template)
    headers = tokens.header_ids(wire.headers())
    assert len(headers) == (2 if template == "chat" else 3 if template != "wizardlm" else 1) or (
        template == "chat"
    )
    for text in ("Add.", " Add", "\n", "7", "étude", "", "''"):
        opened = [wire.prompt(text), wire.prompt(text, text or "1"), wire.guess(text)]
        for prompt in opened:
            ids = tokens.prefix_ids(prompt)
            fits = [h for h in headers if ids[: len(h)] == h.tolist()]
            # A text may merge with what stands before it: then nothing is shared, never wrongly.
            assert fits or template == "wizardlm" or not text.isalnum()


# --- reference -----------------------------------------------------------------------------------


def as_released(tokenizer: Any, prefix: str, target: str, length: int) -> tuple[Any, Any]:
    """What the released scripts score: (ids, first scored position) of both passes, None if NaN."""
    whole = tokenizer(prefix + target)["input_ids"][:length]
    start = len(tokenizer(prefix)["input_ids"])
    room = length - start + 1
    alone = tokenizer(target)["input_ids"][: max(room, 0)]
    conditional = (whole, max(start, 1)) if len(whole) > max(start, 1) else None
    return conditional, ((alone, 1) if len(alone) > 1 else None)


def plain(span: Span | None) -> Any:
    return None if span is None else (span.ids.tolist(), span.start)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(prefix=texts, target=texts, length=st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_reference_is_the_released_way(name: str, prefix: str, target: str, length: int) -> None:
    tokenizer = TOKENIZERS[name]
    conditional, alone = as_released(tokenizer, prefix, target, length)
    tokens = reference(tokenizer, length=length)
    found = pair_of(tokens, prefix, target)
    assert plain(found.conditional) == conditional
    assert plain(found.unconditional) == alone
    assert found.num_tokens == (len(conditional[0]) - conditional[1] if conditional else 0)
    valid = found.status in ("ok", "truncated")
    assert valid == (conditional is not None and alone is not None)
    if valid:
        cut = len(tokenizer(prefix + target)["input_ids"]) > length
        cut |= len(tokenizer(target)["input_ids"]) > len(alone[0])
        assert found.status == ("truncated" if cut else "ok")


def test_reference_statuses() -> None:
    tokens = reference(TOKENIZERS["bos"], length=12)
    assert pair_of(tokens, "", "a").status == "ok"
    assert pair_of(tokens, "b", "a" * 30).status == "truncated"
    assert pair_of(tokens, "b" * 30, "a").status == "overlong"
    assert pair_of(tokens, "b", "").status == "empty"


def test_reference_without_bos_has_no_score_for_one_token() -> None:
    found = pair_of(reference(TOKENIZERS["no bos"], length=12), "b", "a")
    assert found.conditional is not None
    assert (found.unconditional, found.status, found.num_tokens) == (None, "empty", 1)


# --- tokenizers of real models -------------------------------------------------------------------


@pytest.mark.shared
def test_gpt2_has_no_bos_of_its_own() -> None:
    tokenizer = GPT2Tokenizer.from_pretrained(shared("models/gpt2-tokenizer"))
    assert len(tokenizer) == 50257
    check_exact(tokenizer, [], " Apple, pear, fig.")
    check_reference(tokenizer)


@pytest.mark.shared
def test_a_sentencepiece_tokenizer_with_bos() -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared("models/stories260K-hf"))
    check_exact(tokenizer, [1], "Apple, pear, fig.")  # "▁Apple" by itself
    check_reference(tokenizer)


def check_exact(tokenizer: Any, opening: list[int], target_text: str) -> None:
    prompt = Template("vicuna").prompt("Name three fruits.")
    found = pair_of(exact(tokenizer, length=512), prompt, "Apple, pear, fig.")
    target = bare(tokenizer, target_text)
    anchor = (
        tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    )
    assert parts(found.conditional) == (opening + bare(tokenizer, prompt), target)
    assert parts(found.unconditional) == ([anchor], target)


def check_reference(tokenizer: Any) -> None:
    prompt = Template("vicuna").prompt("Name three fruits.")
    found = pair_of(reference(tokenizer, length=60), prompt, "Apple." * 30)
    wanted = as_released(tokenizer, prompt, "Apple." * 30, 60)
    assert (plain(found.conditional), plain(found.unconditional)) == wanted


def test_a_folder_of_a_tokenizer_gives_what_the_object_gives(tiny_student: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(tiny_student)
    assert bare(loaded, "Say the list") == bare(TOKENIZERS["bos"], "Say the list")
    assert loaded("a")["input_ids"][0] == BOS
