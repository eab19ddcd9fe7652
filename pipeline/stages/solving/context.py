"""Whether the longest request fits into the model's context, before anything is asked."""

from collections.abc import Callable, Iterable

from ...config import SolveConfig
from ...errors import CurateError
from ...llm.engines.choose import choose_engine
from ...models.loading import context_of, load_config, load_tokenizer, tokenizer_errors
from ...runs.samples import Problem
from .strategies import Prompt, question_of

TEMPLATE_TOKENS = 64
"""What a chat template may add around one turn."""


def check_context(
    config: SolveConfig, prompt: Prompt, problems: Callable[[], Iterable[Problem]]
) -> None:
    """CurateError, with the numbers, where the longest request may overflow the context.

    Of a model that runs here; a server's context is not known before it is asked.
    """
    if choose_engine(config.teacher) not in ("transformers", "vllm"):
        return
    model = config.teacher.model or "", config.teacher.revision
    context = context_of(load_config(*model))
    if context is None:
        return
    tokenizer = load_tokenizer(*model)

    def length(text: str) -> int:
        with tokenizer_errors(model[0]):
            return len(tokenizer(text, verbose=False)["input_ids"])

    constant = length(prompt.constant())
    lengths = ((length(question_of(problem)), problem.id) for problem in problems())
    longest = max(lengths, default=(0, "none"))
    needed = constant + longest[0] + config.teacher.max_tokens + TEMPLATE_TOKENS
    if needed > context:
        raise CurateError(
            f"{constant} tokens before the question (shots included), {longest[0]} of the longest "
            f"one ({longest[1]}), {TEMPLATE_TOKENS} for the template and --max-tokens "
            f"{config.teacher.max_tokens} make {needed}, above the context of {context} tokens: "
            "give fewer --num-shots, or a smaller --max-tokens"
        )
