"""What ends a trained answer, and the chat template by which a server prompts the trained model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.foreign_json import read_object
from ..base.progress import say
from ..chat_template import ChatTemplate
from ..errors import CurateError
from ..scoring.tokens import Tokenization
from ..templates import SEPARATORS, Template, fill, student_template

# A wire format in Jinja: a user's turn, and in front of each answer what leads to it.
JINJA = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{{ {opening} }}"
    "{% for turn in messages %}"
    "{% if turn['role'] == 'user' and loop.index0 == (messages[0]['role'] == 'system') | int %}"
    "{{ {first} + (system + '\\n\\n' if system else '') + turn['content'] }}"
    "{% elif turn['role'] == 'user' %}{{ {next} + turn['content'] }}"
    "{% elif turn['role'] == 'assistant' %}"
    "{{ {header} + {lead} + turn['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ {asked} }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server must know of a training: how answers end, and how prompts are written.

    Without a `chat_template` the tokenizer's own prompts as was trained.
    """

    end: tuple[int, ...]
    chat_template: str | None


def answer_end(template: Template, tokens: Tokenization) -> tuple[int, ...]:
    """The tokens that a trained answer ends with: EOS, or what a chat template puts behind it.

    Of the latter all up to and with its first special token, on which servers stop. CurateError
    where there is neither.
    """
    end = _rendered_end(template.chat, tokens.tokenizer) if template.chat is not None else ()
    if end:
        return end
    if tokens.eos_id is None:
        raise CurateError("the tokenizer has no end-of-sequence token, so no answer could end")
    return (tokens.eos_id,)


def _rendered_end(chat: ChatTemplate, tokenizer: Any) -> tuple[int, ...]:
    text = chat.closed(
        [{"role": "user", "content": "\x01"}, {"role": "assistant", "content": "\x02"}]
    )
    ids: list[int] = tokenizer(text.rpartition("\x02")[2], add_special_tokens=False)["input_ids"]
    added = (id for id, token in tokenizer.added_tokens_decoder.items() if token.special)
    special = {*tokenizer.all_special_ids, *added}
    place = next((place for place, id in enumerate(ids) if id in special), -1)
    return tuple(ids[: place + 1])


def training_tokens(tokenizer: Any, choice: str) -> Tokenization:
    """The tokens of the template that is chosen; rows are cut by the recipe, not by these."""
    template = student_template(choice, tokenizer)
    return Tokenization(tokenizer, template, name="exact", max_length=1)


def trained_with(model: str) -> str | None:
    """The template that a training of ours noted in a model's folder."""
    found = (read_object(Path(model) / "training.json") or {}).get("template")
    return found if found in (*SEPARATORS, "chat") else None


def serving(template: Template, tokens: Tokenization) -> Serving:
    """How a model that is trained with this template is to be served."""
    end = answer_end(template, tokens)
    if template.chat is None:
        return Serving(end, _wire_format(template, tokens))
    return Serving(end, template.chat.source if template.name == "file" else None)


def _wire_format(template: Template, tokens: Tokenization) -> str:
    """Some tokenizers put a space in front of a text, but not behind a special token."""
    trained = tokens.prefix_ids(template.prompt("Why?"))
    written = "".join(tokens.tokenizer.convert_ids_to_tokens(tokens.opening))
    found = [_jinja(template, tokens, written, space) for space in ("", " ")]
    for text in found:
        if _served(tokens.tokenizer, text) == trained:
            return text
    say("note: a server's prompts will differ from the trained ones in a token, for the tokenizer "
        "splits them otherwise when they are one text")  # fmt: skip
    return found[0]


def _jinja(template: Template, tokens: Tokenization, opening: str, space: str) -> str:
    """The wire format, with `space` behind each special token."""
    first, _, header = template.prompt("\x01").partition("\x01")
    parts = {
        "opening": opening + space,
        "first": first,
        "next": space + template.next_turn("\x01").partition("\x01")[0],
        "header": header,
        "asked": template.before_response(header),
        "lead": _lead(tokens),
    }
    return fill(JINJA, **{name: json.dumps(part) for name, part in parts.items()})


def _lead(tokens: Tokenization) -> str:
    """The text between a prompt's last character and a target's first."""
    ids = tokens.prefix_ids("a") + tokens.target_ids("b")
    text: str = tokens.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text.rpartition("a")[2].removesuffix("b")


def _served(tokenizer: Any, chat_template: str) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Why?"}],
        chat_template=chat_template,
        add_generation_prompt=True,
        return_dict=False,
    )
    return ids
