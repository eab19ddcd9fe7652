"""`curate synthesize --dry-run`: what would be asked for and cost, asking and writing nothing."""

from collections.abc import Iterator, Sequence

from ...config import SynthesizeConfig
from ...inputs.ingest import Intake
from ...inputs.readers import open_source
from ...llm.budget import Budget
from ...llm.engines.choose import is_sold, model_prices
from ...method.synthesis.items import SHOTS
from ...records import Message, user_turn
from ...runs.instructions import Instruction
from ...templates import asking_turn
from .evol import EQUALITY, evolving
from .seeds import read_seeds
from .self_instruct import CLASSIFY, INPUT_FIRST, ITEMS, new_instructions

LETTERS = 4
"""Characters a token."""
GROWTH, ANSWER, LABEL = 15, 300, 3
"""Tokens that an evolution adds to a prompt, of an answer or the instances, of one word."""
Calls = tuple[int, float, float]
"""How many, and the prompt and completion tokens of each."""


def estimate(config: SynthesizeConfig) -> str:
    """The calls, tokens and cost in words, were nothing left out."""
    seeds = read_seeds(open_source(config.input.data), config, Intake()).rows
    kinds = list((_evol if config.method == "evol" else _self_instruct)(config, seeds))
    calls = sum(number for number, _, _ in kinds)
    prompt = round(sum(number * tokens for number, tokens, _ in kinds))
    completion = round(sum(number * tokens for number, _, tokens in kinds))
    settings = config.teacher
    budget = Budget(prices=model_prices(settings), sold=is_sold(settings), half=settings.batch_api)
    cost = budget.cost_text(budget.price(prompt, completion), digits=2)
    about = "cost " if budget.sold else ""
    bound, more = (
        ("at most ", "") if config.method == "evol" else ("", "; what is left out costs more")
    )
    return (
        f"{len(seeds)} seeds: {bound}{calls} calls, about {prompt:,} prompt tokens and "
        f"{completion:,} completion tokens (an estimate), {about}{cost}{more}"
    )


def _tokens(messages: tuple[Message, ...]) -> float:
    return sum(len(message["content"]) for message in messages) / LETTERS


def _self_instruct(config: SynthesizeConfig, seeds: Sequence[Instruction]) -> Iterator[Calls]:
    texts = [seed.instruction for seed in seeds]
    size = sum(map(len, texts)) / len(texts)
    shots = SHOTS * size / LETTERS
    yield -(-config.number // ITEMS), shots + _tokens(new_instructions([])), ITEMS * size / LETTERS
    if config.answers:
        for form, tokens in ((CLASSIFY, LABEL), (INPUT_FIRST, ANSWER)):
            prompt = _tokens(asking_turn(form, instruction="")) + size / LETTERS
            yield config.number, prompt, tokens


def _evol(config: SynthesizeConfig, seeds: Sequence[Instruction]) -> Iterator[Calls]:
    chosen = set(evolving(seeds, config.number, config.rounds, seed=config.teacher.seed or 0))
    texts = [user_turn(seed.instruction, seed.input) for seed in seeds if seed.id in chosen]
    size = sum(map(len, texts)) / len(texts) / LETTERS
    calls = min(config.number, len(texts) * config.rounds)
    size += GROWTH * (config.rounds - 1) / 2
    yield calls, size + _tokens(asking_turn("evolve_deepen", instruction="")), size + GROWTH
    if not config.no_equality:
        yield calls, 2 * size + _tokens(asking_turn(EQUALITY, first="", second="")), LABEL
    if config.answers:
        yield calls, size + GROWTH, ANSWER
