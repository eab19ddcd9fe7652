"""The student's prompts: published wire formats, to the byte (METHOD.md section 2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.chat_template import ChatTemplate, Turn
from curate.pipeline.templates import Template, fill

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
    "{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
WIZARDLM = "{instruction}\n\n### Response:"
WIZARDLM_INPUT = "{instruction}\n{input}\n\n### Response:"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: {instruction} ASSISTANT:"
)
VICUNA_INPUT = VICUNA.replace("{instruction}", "{instruction}\nInput:\n{input}")
GUESS = (
    "Below is the response to an instruction, please guess the corresponding instruction for the "
    "given response.\n{response}\nGenerate the instruction for the above response."
)
FORMATS: dict[str, tuple[str, str]] = {
    "alpaca": (ALPACA, ALPACA_INPUT),
    "wizardlm": (WIZARDLM, WIZARDLM_INPUT),
    "vicuna": (VICUNA, VICUNA_INPUT),
}
texts = st.text() | st.sampled_from(
    ["{instruction}", "{input}", "{response}", "{}", "{0}", "%s", "\\1", "\\g<0>", "{{x}}", "\r\n"]
)


@pytest.mark.parametrize("name", FORMATS)
@given(x=texts, extra=texts, y=texts)
def test_wire_formats_to_the_byte(name: str, x: str, extra: str, y: str) -> None:
    plain, with_input = FORMATS[name]
    template = Template(name)
    before, after = plain.split("{instruction}")
    assert template.prompt(x) == before + x + after
    assert template.guess(y) == before + GUESS.split("{response}")[0] + y + (
        GUESS.split("{response}")[1] + after
    )
    before, rest = with_input.split("{instruction}")
    between, after = rest.split("{input}")
    wanted = before + x + between + extra + after if extra else template.prompt(x)
    assert template.prompt(x, extra) == wanted


@pytest.mark.parametrize("name", FORMATS)
def test_a_system_turn_is_before_the_instruction_with_a_blank_line_between(
    name: str,
) -> None:
    template = Template(name)
    assert template.prompt("Add.", system="Be brief.") == template.prompt("Be brief.\n\nAdd.")
    assert template.prompt("Add.", "1", system="Be.") == template.prompt("Be.\n\nAdd.", "1")
    assert template.prompt("Add.", system="") == template.prompt("Add.")


def rendered(turns: list[Turn], add_generation_prompt: bool) -> str:
    opening = "<assistant>" * add_generation_prompt
    return "".join(f"<{turn['role']}>{turn['content']}" for turn in turns) + opening


def test_chat_turns() -> None:
    template = Template("chat", ChatTemplate("", rendered))
    assert template.prompt("Add.") == "<user>Add.<assistant>"
    assert template.prompt("Add.", "1 {x}") == "<user>Add.\n1 {x}<assistant>"
    assert template.prompt("Add.", system="Be.") == "<system>Be.<user>Add.<assistant>"
    assert template.guess("3") == f"<user>{GUESS.replace('{response}', '3')}<assistant>"


@pytest.mark.parametrize("name", FORMATS)
def test_headers_are_what_prompts_open_with(name: str) -> None:
    template = Template(name)
    plain, with_input, guess = template.headers()
    assert template.prompt("Add.").startswith(plain)
    assert template.prompt("Add.", "1").startswith(with_input)
    assert template.guess("3").startswith(guess)
    assert plain == FORMATS[name][0].partition("{instruction}")[0]
    assert guess == plain + GUESS.partition("{response}")[0]


def test_fill_replaces_in_one_pass() -> None:
    assert fill("{a}{b}{a}{c}", a="{b}", b="{a}") == "{b}{a}{b}{c}"
