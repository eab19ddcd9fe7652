"""What a server renders with the saved chat template is, token for token, what was trained on."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from curate.pipeline.errors import CurateError
from curate.pipeline.records import Example
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.stages.generation.prompting import Prompting
from curate.pipeline.templates import student_template
from curate.pipeline.training.chat_template import answer_end, serving
from curate.pipeline.training.rows import RowFormat, TrainingRow, training_data

from ..conftest import shared

REAL = os.environ.get("CURATE_REAL_STUDENT", "")
"""A folder with a student that people train, if there is one."""
TEXTS = ["USER: Name a bird. ASSISTANT: A robin.", "### Instruction:\nWhy?\n\n### Response:\nSo."]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def sentencepiece_like() -> Any:
    """A text gets a space in front, but not behind a special token, as Llama 2's tokenizer does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    letters = [chr(number) for number in range(10, 127)]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(special_tokens=["<s>", "</s>"], initial_alphabet=letters)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def chatml(*, eos: str | None = "<|endoftext|>") -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token=eos,
        extra_special_tokens=["<|im_end|>"],
        chat_template=CHATML,
    )


def real_student() -> Path:
    if not REAL:
        pytest.skip("CURATE_REAL_STUDENT names no folder")
    return Path(REAL)


@cache
def loaded(name: str) -> Any:
    """A tokenizer by its name; skipped where it may not be redistributed."""
    if name == "sentencepiece-like":
        return sentencepiece_like()
    if name == "chatml":
        return chatml()
    if name == "gpt2":
        return GPT2Tokenizer.from_pretrained(shared("models/gpt2-tokenizer"))
    if name == "stories":
        return AutoTokenizer.from_pretrained(shared("models/stories260K-hf"))
    return AutoTokenizer.from_pretrained(real_student())


def row_of(tokenizer: Any, name: str, example: Example) -> tuple[TrainingRow, str | None]:
    """The training row of an example, and the chat template to serve the model with."""
    template = student_template(name, tokenizer)
    tokens = Tokenization(tokenizer, template, name="exact", max_length=1)
    served = serving(template, tokens)
    form = RowFormat(template=template, tokens=tokens, end=served.end, max_length=1 << 20)
    [row] = training_data([example], form).rows
    return row, served.chat_template


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize(
    ("tokenizer", "template"),
    [
        *((name, t) for name in ("sentencepiece-like", "gpt2", "stories", "real")
          for t in ("vicuna", "alpaca", "wizardlm")),
        ("chatml", "chat"),
        ("chatml", "alpaca"),
    ],
)  # fmt: skip
def test_a_server_renders_the_tokens_that_were_trained_on(
    tokenizer: str, template: Any, system: str | None
) -> None:
    given = loaded(tokenizer)
    example = Example(id="a", instruction="Name a bird.", output="A robin.", system=system)
    row, chat_template = row_of(given, template, example)
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": example.instruction})
    rendered = {"chat_template": chat_template, "return_dict": False}
    prompt = given.apply_chat_template(turns, add_generation_prompt=True, **rendered)
    assert prompt == row.input_ids[: row.prefix_length]
    turns.append({"role": "assistant", "content": example.output})
    whole = given.apply_chat_template(turns, **rendered)
    assert whole[: len(row.input_ids)] == row.input_ids  # ChatML has a line break behind the end
    assert template == "chat" or len(whole) == len(row.input_ids)


@pytest.mark.parametrize("template", ["vicuna", "alpaca", "wizardlm"])
@pytest.mark.parametrize("model", ["tiny", "stories", "real"])
def test_further_turns_are_those_that_generation_asks_with(
    model: str, template: Any, tiny_student: Path
) -> None:
    folder = tiny_student if model == "tiny" else shared("models/stories260K-hf")
    folder = real_student() if model == "real" else folder
    asked = Prompting(str(folder), None, template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = Tokenization(tokenizer, asked.template, name="exact", max_length=1)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a bird."},
        {"role": "assistant", "content": "A robin."},
        {"role": "user", "content": "Why?"},
    ]
    rendered = tokenizer.apply_chat_template(
        turns,
        chat_template=serving(asked.template, tokens).chat_template,
        add_generation_prompt=True,
        return_dict=False,
    )
    wanted = asked.prompt(["Name a bird.", "Why?"], ["A robin."], input="", system="Be brief.")
    assert tuple(rendered) == wanted.tokens


def ends(tokenizer: Any, name: str) -> list[str]:
    template = student_template(name, tokenizer)
    tokens = Tokenization(tokenizer, template, name="exact", max_length=1)
    found: list[str] = tokenizer.convert_ids_to_tokens(list(answer_end(template, tokens)))
    return found


def test_an_answer_ends_as_the_template_ends_it() -> None:
    tokenizer = chatml()
    assert ends(tokenizer, "chat") == ["<|im_end|>"]
    assert ends(tokenizer, "alpaca") == ["<|endoftext|>"]
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "##")  # no special token: as without one
    assert ends(tokenizer, "chat") == ["<|endoftext|>"]
    assert ends(chatml(eos=None), "chat") == ["<|im_end|>"]


def test_an_answer_must_be_able_to_end() -> None:
    with pytest.raises(CurateError, match="no end-of-sequence token"):
        ends(chatml(eos=None), "alpaca")
