"""Questions -> the tokens that the student is asked with: those that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...chat_template import SHIELD
from ...models.loading import load_tokenizer
from ...records import conversation
from ...training.chat_template import trained_with, training_tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as tokens and as the text that they stand for."""

    tokens: tuple[int, ...]
    text: str


class Prompting:
    """The template and the tokenizer of one student; the template is resolved."""

    def __init__(self, model: str, revision: str | None, template: str | None) -> None:
        tokenizer = load_tokenizer(model, revision)
        self._tokens = training_tokens(tokenizer, template or trained_with(model) or "auto")
        self.template = self._tokens.template
        self._end = str(tokenizer.eos_token or "")
        self.opens_with_bos = self._tokens.opening == [tokenizer.bos_token_id]

    def prompt(
        self, turns: Sequence[str], answers: Sequence[str], *, input: str, system: str | None
    ) -> Prompt:
        """T of the questions so far, one more than there are answers.

        Of a wire format: T(x) + y + EOS as in training, and the next question behind it.
        """
        if self.template.chat is not None:
            text = self.template.chat(conversation(turns, answers, input=input, system=system))
            before = self.template.before_response(text).replace(SHIELD, "")
            return Prompt(tuple(self._tokens.prefix_ids(text)), before)
        first = self.template.prompt(turns[0], input, system=system)
        *asked, last = (first, *map(self.template.next_turn, turns[1:]))
        whole = ""
        context: list[str] = []
        for prompt, answer in zip(asked, answers, strict=True):
            context += [prompt, answer]
            whole += self.template.before_response(prompt) + self.template.leading_space
            whole += answer + self._end
        tokens = self._tokens.prefix_ids(last, tuple(context))
        return Prompt(tuple(tokens), whole + self.template.before_response(last))

    def answer(self, reply: str) -> str:
        """What the model wrote, without the space between prompt and response."""
        return reply.removeprefix(self.template.leading_space)
